"""Compiled programs kept on disk, so that the next process does not compile them again.

They are kept in `~/.cache/jaxle/xla` (or below `XDG_CACHE_HOME`). To opt out, set
`JAXLE_NO_COMPILATION_CACHE=1`. JAX's own settings come first: whoever has chosen a folder
(`JAX_COMPILATION_CACHE_DIR`), or switched the cache off (`JAX_ENABLE_COMPILATION_CACHE=0`), keeps
that. Source: https://docs.jax.dev/en/latest/persistent_compilation_cache.html
"""

from __future__ import annotations

import functools
import os

import jax
from jax.experimental.compilation_cache import compilation_cache

OPT_OUT = "JAXLE_NO_COMPILATION_CACHE"
LEAST_SECONDS = 0.05  # of compilation: what is compiled faster is not kept


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
