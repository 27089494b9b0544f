"""How programs are compiled that run once: without LLVM's optimisation, and each fused loop by the
plain emitter of LLVM code in place of the one by way of MLIR.

XLA's own passes (fusion, layout) run as ever. A product and a sum are rounded each by itself:
without optimisation, one expression in two loops would be contracted in one of them only, and a
Gram matrix would not equal its transpose. A program's code is one part, not several that threads
compile side by side: a process may map 65,530 regions of memory, and thousands of programs in
parts take more.
"""

import platform

COMPILED_FAST = [
    "--xla_backend_optimization_level=0",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if platform.machine() in ("x86_64", "AMD64"):
    COMPILED_FAST.append("--xla_cpu_max_isa=AVX")  # which has no fused multiply-add
