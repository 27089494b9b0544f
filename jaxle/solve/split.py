"""One program on each device of axis `data`: by images or by neurons, each on rows of its own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec

from jaxle.compilation import without_triton
from jaxle.mesh import all_rows, local, own_rows, several, spans

ROWS, COLUMNS, WHOLE = PartitionSpec("data"), PartitionSpec(None, "data"), PartitionSpec()


def split_jit(
    function: Callable[..., Any],
    mesh: Mesh | None,
    in_specs: Any,
    out_specs: Any,
    donate: int | tuple[int, ...] = (),
) -> Any:
    """Returns jit of `function`, which each device of the axis `data` runs on its own rows.

    Called by the host, not within another jit. Without a mesh the specs are not used. On a mesh of
    several processes each takes its own rows of the arguments that `in_specs` splits, and all get
    all rows; `function` sums over no axis.
    """
    if spans(mesh):
        assert mesh is not None and out_specs == ROWS, "what is summed goes by `whole_sum`"
        own = split_jit(function, local(mesh), in_specs, out_specs, donate)

        def share(x: Any, spec: Any) -> Any:
            if spec == COLUMNS:
                return own_rows(mesh, x.T).T
            return own_rows(mesh, x) if spec == ROWS else x

        def run(*arguments: Any) -> Any:
            given = itertools.starmap(share, zip(arguments, in_specs, strict=True))
            return jax.tree.map(functools.partial(all_rows, mesh), own(*given))

        return run
    mesh = several(mesh)
    if mesh is not None:
        function = jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )
    return jax.jit(function, donate_argnums=donate, compiler_options=without_triton())
