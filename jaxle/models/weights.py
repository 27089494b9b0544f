"""Checkpoints fitted strictly onto a network's variables.

A `Layout` is one readable table of source name → parameter path, transform. It is strict both ways:
every tensor of the file is used or named as ignored, every parameter is filled with finite numbers,
and all mismatches are counted in one error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util
from jaxtyping import Float, Shaped

from jaxle.models.checkpoints import WRAPPERS, Tensors, unwrapped

# Names under which a training program's own class holds the network, beside torch's wrappers.
# transformers' TimmWrapper has one too.
_HOLDERS = (*WRAPPERS, "model.", "net.", "network.", "backbone.", "timm_model.")
_EXAMPLES = 10  # mismatches named in an error


def keep(tensor: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns the tensor as it is."""
    return tensor


def conv(tensor: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns torch's convolution kernel (out, in, h, w) as Flax's (h, w, in, out).

    Raises:
      ValueError: another number of axes.
    """
    return tensor.transpose(2, 3, 1, 0)


def dense(tensor: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns torch's linear weight (out, in) as Flax's kernel (in, out).

    Raises:
      ValueError: another number of axes.
    """
    return tensor.transpose(1, 0)


def pointwise(tensor: Shaped[np.ndarray, "outputs *inputs"]) -> Shaped[np.ndarray, "_ outputs"]:
    """Returns a linear weight (out, in), or a 1×1 convolution's (out, in, 1, 1), as Flax's dense
    kernel (in, out)."""
    return dense(tensor.reshape(tensor.shape[0], -1))


class Rename(NamedTuple):
    """One row of a layout.

    Attributes:
      pattern: a regular expression for the whole source name.
      path: the parameter's path, groups of the pattern as \\1.
      transform: from the file's tensor to the parameter.
    """

    pattern: str
    path: str
    transform: Callable[[np.ndarray], np.ndarray] = keep


class Layout(NamedTuple):
    """How one checkpoint format names a network's tensors.

    Attributes:
      renames: the table; a tensor that several rows match (a fused qkv) fills several parameters.
      ignored: patterns of tensors that are left aside.
      prepare: rewrites the whole dict first, where one parameter is made of two tensors or one
        tensor holds all layers.
    """

    renames: tuple[Rename, ...]
    ignored: tuple[str, ...] = ()
    prepare: Callable[[Tensors], Tensors] = dict


def batch_norm(source: str, path: str) -> tuple[Rename, ...]:
    """Returns the four rows of a torch BatchNorm: `source` a pattern, `path` without its
    collection."""
    return (
        Rename(source + r"\.weight", f"params/{path}/scale"),
        Rename(source + r"\.bias", f"params/{path}/bias"),
        Rename(source + r"\.running_mean", f"batch_stats/{path}/mean"),
        Rename(source + r"\.running_var", f"batch_stats/{path}/var"),
    )


def layer_norm(source: str, path: str) -> tuple[Rename, ...]:
    """Returns the two rows of a torch LayerNorm."""
    return (
        Rename(source + r"\.weight", f"params/{path}/scale"),
        Rename(source + r"\.bias", f"params/{path}/bias"),
    )


def linear(source: str, path: str) -> tuple[Rename, ...]:
    """Returns the two rows of a torch Linear."""
    return (
        Rename(source + r"\.weight", f"params/{path}/kernel", dense),
        Rename(source + r"\.bias", f"params/{path}/bias"),
    )


def attention(
    source: str, path: str, heads: int, names: Sequence[str], out: str
) -> tuple[Rename, ...]:
    """Returns the eight rows of four torch Linears (query, key, value, out), which Flax's
    MultiHeadDotProductAttention holds by head."""
    rows = []
    for name, part in zip(names, ("query", "key", "value"), strict=True):
        rows += [
            Rename(
                rf"{source}\.{name}\.weight",
                f"params/{path}/{part}/kernel",
                lambda t: dense(t).reshape(t.shape[1], heads, -1),
            ),
            Rename(
                rf"{source}\.{name}\.bias",
                f"params/{path}/{part}/bias",
                lambda t: t.reshape(heads, -1),
            ),
        ]
    return (*rows, *_attention_out(rf"{source}\.{out}", path, heads))


def fused_attention(
    source: str, path: str, heads: int, weight: str, bias: str, out: str
) -> tuple[Rename, ...]:
    """Returns the rows of a torch attention whose query, key and value are one tensor, stacked in
    this order."""
    rows = []
    for i, part in enumerate(("query", "key", "value")):
        rows += [
            Rename(
                rf"{source}\.{weight}",
                f"params/{path}/{part}/kernel",
                lambda t, i=i: dense(np.split(t, 3)[i]).reshape(t.shape[1], heads, -1),
            ),
            Rename(
                rf"{source}\.{bias}",
                f"params/{path}/{part}/bias",
                lambda t, i=i: np.split(t, 3)[i].reshape(heads, -1),
            ),
        ]
    return (*rows, *_attention_out(rf"{source}\.{out}", path, heads))


def _attention_out(source: str, path: str, heads: int) -> tuple[Rename, ...]:
    return (
        Rename(
            source + r"\.weight",
            f"params/{path}/out/kernel",
            lambda t: dense(t).reshape(heads, -1, t.shape[0]),
        ),
        Rename(source + r"\.bias", f"params/{path}/out/bias"),
    )


def _flax(source: Tensors) -> Tensors:
    """Paths joined by "/" or "."; parameters may come without their collection's name."""
    if not any("/" in name for name in source):
        source = {name.replace(".", "/"): tensor for name, tensor in source.items()}
    if not any(name.startswith("params/") for name in source):
        source = {
            name if name.startswith("batch_stats/") else f"params/{name}": tensor
            for name, tensor in source.items()
        }
    return source


FLAX = Layout(
    (Rename(r"(.+/.+)", r"\1"),),  # whatever collections the network has
    ignored=(r"opt(?:_state|imizer)?/.*", "step"),
    prepare=_flax,
)


def convert(
    source: Mapping[str, Shaped[np.ndarray, "..."]],
    variables: Mapping[str, Any],
    layouts: Mapping[str, Layout],
    name: str,
    *,
    resample: bool = False,
) -> dict[str, Any]:
    """Returns a file's tensors as a network's variables; the layout that fits best is taken.

    Args:
      source: flat name → array, from `checkpoints.read`.
      variables: nested dict of arrays or ShapeDtypeStructs, `{"params": …, "batch_stats": …}`: what
        must be filled.
      layouts: layout name → Layout. Each is tried with the names as they are, and without a prefix
        such as "model." that all of them carry.
      name: what to call the file in an error.
      resample: fit an image tower's position embeddings of another resolution by bilinear
        interpolation; otherwise they are a mismatch.

    Returns:
      Nested dict of float32 arrays of the shapes of `variables`.

    Raises:
      ValueError: unexpected source tensors, unfilled parameters, wrong shapes (counted, with
        examples), or a tensor that is not finite.
    """
    label, found = _best(source, variables, layouts, resample)
    if found.problems:
        raise ValueError(_summary(name, label, found))
    for path, value in found.values.items():
        if not np.isfinite(value).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            raise ValueError(
                f"weights {name} hold {float(value[at])} in {found.names[path]} "
                f"({path} at {at}); expected finite numbers: the file is damaged, or the "
                "training that wrote it diverged"
            )
    return traverse_util.unflatten_dict(found.values, sep="/")


def shapes(
    source: Mapping[str, Shaped[np.ndarray, "..."]],
    variables: Mapping[str, Any],
    layouts: Mapping[str, Layout],
) -> dict[str, tuple[int, ...]]:
    """Returns path → shape of what a file gives to a network's parameters, those that do not fit
    included; arguments as of `convert`."""
    _, found = _best(source, variables, layouts, resample=False)
    return {path: tuple(value.shape) for path, value in found.values.items()}


def _best(
    source: Mapping[str, np.ndarray],
    variables: Mapping[str, Any],
    layouts: Mapping[str, Layout],
    resample: bool,
) -> tuple[str, _Applied]:
    expected = traverse_util.flatten_dict(variables, sep="/")
    bare = unwrapped(source, _HOLDERS)
    spellings = [source] if bare.keys() == source.keys() else [source, bare]
    return min(
        (
            (label, _apply(layout, tensors, expected, resample))
            for label, layout in layouts.items()
            for tensors in spellings
        ),
        key=lambda item: len(item[1].problems),
    )


class _Applied(NamedTuple):
    """What one layout makes of a file."""

    values: dict[str, np.ndarray]  # path → parameter, float32 where there are no problems
    names: dict[str, str]  # path → source name
    unexpected: list[str]
    missing: list[str]
    wrong: list[str]

    @property
    def problems(self) -> list[str]:
        return self.unexpected + self.missing + self.wrong


def _summary(name: str, label: str, found: _Applied) -> str:
    counts = ", ".join(
        f"{len(problems)} {what}"
        for what, problems in (
            ("unexpected in the file", found.unexpected),
            ("missing from it", found.missing),
            ("of wrong shape", found.wrong),
        )
        if problems
    )
    # A few of each kind, then what is left of the first kinds.
    kinds = (found.wrong, found.unexpected, found.missing)
    few = [problem for kind in kinds for problem in kind[: _EXAMPLES // len(kinds)]]
    few += [problem for kind in kinds for problem in kind[_EXAMPLES // len(kinds) :]]
    listing = "\n  ".join(few[:_EXAMPLES])
    more = len(few) - _EXAMPLES
    return (
        f"weights {name} do not fit the network (read as layout {label!r}); "
        f"{len(few)} mismatches ({counts}):\n  {listing}"
        + (f"\n  … and {more} more" if more > 0 else "")
    )


def _apply(
    layout: Layout, source: Mapping[str, np.ndarray], expected: Mapping[str, Any], resample: bool
) -> _Applied:
    try:
        source = layout.prepare(dict(source))
    except (KeyError, ValueError, IndexError):  # not of this layout; the rows below say so by name
        pass
    rows = [(re.compile(row.pattern), row) for row in layout.renames]
    ignored = [re.compile(pattern) for pattern in layout.ignored]
    found = _Applied({}, {}, [], [], [])
    for name, tensor in source.items():
        if any(pattern.fullmatch(name) for pattern in ignored):
            continue
        targets = [
            (match.expand(row.path), row.transform)
            for pattern, row in rows
            if (match := pattern.fullmatch(name))
        ]
        targets = [(path, transform) for path, transform in targets if path in expected]
        if not targets:
            found.unexpected.append(f"unexpected in the file: {name} {tuple(tensor.shape)}")
        for path, transform in targets:
            try:
                value = transform(tensor)
            except (ValueError, IndexError):
                value = tensor
            if resample and path.endswith("pos_embedding") and "/txt/" not in path:
                value = resample_positions(value, expected[path].shape[1])
            if tuple(value.shape) != tuple(expected[path].shape):
                need = tuple(expected[path].shape)
                found.wrong.append(
                    f"wrong shape: {name} {tuple(tensor.shape)} gives {tuple(value.shape)}; "
                    f"{path} needs {need}"
                )
            found.values[path], found.names[path] = value, name
    found.missing.extend(
        f"missing from the file: {path} {tuple(expected[path].shape)}"
        for path in expected
        if path not in found.values
    )
    if found.problems:
        return found
    return found._replace(
        values={
            path: np.asarray(value, dtype=np.float32, order="C")
            for path, value in found.values.items()
        }
    )


def resample_positions(
    positions: Float[np.ndarray, "1 old width"], tokens: int
) -> Float[np.ndarray, "1 _ width"]:
    """Returns a square grid of position embeddings (1, tokens, width) brought to another size.

    Bilinear, corners on corners, as big_vision does. A first token that does not belong to the grid
    (a class token's) is kept. Without a square on both sides, the input is returned.
    """
    old, extra = positions.shape[1], 0
    if (tokens - 1) == round((tokens - 1) ** 0.5) ** 2 and (old - 1) == round(
        (old - 1) ** 0.5
    ) ** 2:
        extra = 1
    a, b = round((old - extra) ** 0.5), round((tokens - extra) ** 0.5)
    if a * a != old - extra or b * b != tokens - extra:
        return positions
    at = np.linspace(0, a - 1, b)
    average = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(a)))
    grid = np.einsum("ya,xb,abw->yxw", average, average, positions[0, extra:].reshape(a, a, -1))
    return np.concatenate([positions[:, :extra], grid.reshape(1, b * b, -1)], axis=1).astype(
        positions.dtype
    )
