"""How programs are compiled that run once: without LLVM's optimisation, and each fused loop by the
plain emitter of LLVM code in place of the one by way of MLIR.

XLA's own passes (fusion, layout) run as ever.
"""

COMPILED_FAST = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")
