"""Compiled programs: quick to make on a GPU, and kept on disk for the next process.

On a GPU, XLA compiles and times dozens of Triton kernels for every shape of a float32 product: on
an H100 the moments of 8,438 concepts and 2,048 neurons compiled for 37 s, to run for 0.2 s. cuBLAS
is as fast for them, so that Triton is left out, unless `XLA_FLAGS` says something of it.

Compiled programs are kept in `~/.cache/jaxle/xla` (or below `XDG_CACHE_HOME`). To opt out, set
`JAXLE_NO_COMPILATION_CACHE=1`. JAX's own settings come first: whoever has chosen a folder
(`JAX_COMPILATION_CACHE_DIR`), or switched the cache off (`JAX_ENABLE_COMPILATION_CACHE=0`), keeps
that. Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
"""

from __future__ import annotations

import functools
import os
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

OPT_OUT = "JAXLE_NO_COMPILATION_CACHE"
LEAST_SECONDS = 0.05  # of compilation: what is compiled faster is not kept
TRITON = "xla_gpu_enable_triton_gemm"


def leave_out_triton() -> None:
    """Has XLA compile all products of this process for cuBLAS, where it runs on an NVIDIA GPU.

    For a process that is jaxle's own; only before JAX computes anything does it have an effect.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if TRITON not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --{TRITON}=false".strip()


def without_triton() -> dict[str, Any] | None:
    """Returns `compiler_options` of `jax.jit` that do the same for one program, None elsewhere.

    For programs that whoever imports jaxle calls: not within another `jax.jit`, which JAX refuses.
    """
    chosen = TRITON in os.environ.get("XLA_FLAGS", "")
    return {TRITON: False} if jax.default_backend() == "gpu" and not chosen else None


@functools.cache
def use_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the user's settings say otherwise.

    Called by every function that compiles much; only the first call does anything.
    """
    if os.environ.get(OPT_OUT, "0") not in ("", "0"):
        return
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(home, "jaxle", "xla")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:  # a home that cannot be written to: programs are compiled in each process
        return
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    compilation_cache.reset_cache()  # a program compiled before has settled that there is none
