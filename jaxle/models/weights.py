"""Checkpoint files read into flat name → array dicts, and fitted strictly onto a network's variables.

Formats: `.npz` (flat keys such as "params/layer1/0/conv1/kernel"; big_vision's are these), `.safetensors`, Flax `.msgpack`, folders of
Hugging Face or orbax, and torch's `.pth`, `.pt`, `.th`, `.pth.tar`, `.bin` through `torch.load(weights_only=True)` only. Nothing in a file
is ever executed.

A `Layout` is one readable table of source name → parameter path, transform. It is strict both ways: every tensor of the file is used or
named as ignored, every parameter is filled, and all mismatches are told in one error.
"""

import hashlib
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import serialization, traverse_util

TORCH_SUFFIXES = (".pth", ".pt", ".th", ".tar", ".bin")
SUFFIXES = (".npz", ".safetensors", ".msgpack", *TORCH_SUFFIXES)


def keep(tensor: np.ndarray) -> np.ndarray:
    """The tensor as it is."""
    return tensor


def conv(tensor: np.ndarray) -> np.ndarray:
    """Torch convolution kernel (out, in, h, w) → Flax (h, w, in, out)."""
    return tensor.transpose(2, 3, 1, 0)


def dense(tensor: np.ndarray) -> np.ndarray:
    """Torch linear weight (out, in) → Flax kernel (in, out)."""
    return tensor.transpose(1, 0)


class Rename(NamedTuple):
    """One row of a layout: a regular expression for the whole source name, the parameter's path (groups as \\1), the transform."""

    pattern: str
    path: str
    transform: Callable[[np.ndarray], np.ndarray] = keep


class Layout(NamedTuple):
    """How one checkpoint format names a network's tensors; a tensor that several rows match (a fused qkv) fills several parameters.

    `prepare` rewrites the whole dict first, where one parameter is made of two tensors or one tensor holds all layers.
    """

    renames: tuple[Rename, ...]
    ignored: tuple[str, ...] = ()
    prepare: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict


def batch_norm(source: str, path: str) -> tuple[Rename, ...]:
    """The four rows of a torch BatchNorm: `source` a pattern, `path` without its collection."""
    return (
        Rename(source + r"\.weight", f"params/{path}/scale"),
        Rename(source + r"\.bias", f"params/{path}/bias"),
        Rename(source + r"\.running_mean", f"batch_stats/{path}/mean"),
        Rename(source + r"\.running_var", f"batch_stats/{path}/var"),
    )


def layer_norm(source: str, path: str) -> tuple[Rename, ...]:
    """The two rows of a torch LayerNorm."""
    return Rename(source + r"\.weight", f"params/{path}/scale"), Rename(
        source + r"\.bias", f"params/{path}/bias"
    )


def linear(source: str, path: str) -> tuple[Rename, ...]:
    """The two rows of a torch Linear."""
    return Rename(source + r"\.weight", f"params/{path}/kernel", dense), Rename(
        source + r"\.bias", f"params/{path}/bias"
    )


def attention(
    source: str, path: str, heads: int, names: Sequence[str], out: str
) -> tuple[Rename, ...]:
    """The eight rows of four torch Linears (query, key, value, out) that Flax's MultiHeadDotProductAttention holds by head."""
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
    """The rows of a torch attention whose query, key and value are one tensor, stacked in this order."""
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


def _flax(source: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Paths joined by "/" or "."; the parameters alone may come without their collection's name."""
    if not any("/" in name for name in source):
        source = {name.replace(".", "/"): tensor for name, tensor in source.items()}
    if not any(name.startswith("params/") for name in source):
        source = {
            name if name.startswith("batch_stats/") else f"params/{name}": tensor
            for name, tensor in source.items()
        }
    return source


FLAX = Layout(
    (Rename(r"((?:params|batch_stats)/.+)", r"\1"),),
    ignored=(r"opt(?:_state|imizer)?/.*", "step"),
    prepare=_flax,
)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Use it to see what a checkpoint holds.

    Args:
      path: a file with one of the suffixes in `SUFFIXES`, or a folder of Hugging Face's or orbax's making.

    Returns:
      Name → array, as the file names them ("module." of torch's DataParallel removed).

    Raises:
      ValueError: another suffix, or a file that is damaged, truncated or would run code. ImportError: torch is needed and absent.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"weights file {path} has suffix {path.suffix!r}; readable are {', '.join(SUFFIXES)}"
        )
    if path.suffix == ".npz":
        tensors = _read_npz(path)
    elif path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix == ".msgpack":
        tensors = _read_msgpack(path)
    else:
        tensors = _read_torch(path)
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _read_folder(path: Path) -> dict[str, np.ndarray]:
    """A Hugging Face folder (one file, or an index of shards), or a folder that orbax wrote."""
    if (path / "model.safetensors.index.json").is_file():
        shards = shard_names(path / "model.safetensors.index.json")
        return {name: tensor for shard in shards for name, tensor in read(path / shard).items()}
    for name in ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin"):
        if (path / name).is_file():
            return read(path / name)
    if not (path / "_METADATA").is_file():
        raise ValueError(
            f"weights folder {path} holds neither model.safetensors nor an orbax checkpoint (_METADATA)"
        )
    import orbax.checkpoint

    try:
        tree = orbax.checkpoint.PyTreeCheckpointer().restore(path.absolute())
    except (ValueError, KeyError, OSError) as error:
        raise _damaged(path, error) from error
    return {
        name: np.asarray(tensor)
        for name, tensor in traverse_util.flatten_dict(tree, sep="/").items()
        if tensor is not None
    }


def shard_names(index: Path) -> list[str]:
    """The files that a Hugging Face index (`model.safetensors.index.json`) spreads its tensors over. Raises ValueError if it is damaged."""
    try:
        return sorted(
            {Path(shard).name for shard in json.loads(index.read_text())["weight_map"].values()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(index, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ValueError(
        f"weights file {path} cannot be read, it may be damaged or truncated: {reason}"
    )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as handle:  # np.load would leave a damaged file open
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("not a zip archive")
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_msgpack(path: Path) -> dict[str, np.ndarray]:
    import msgpack

    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise _damaged(path, error) from error
    return traverse_util.flatten_dict(tree, sep="/")


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    import pickle

    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{path.name} is a torch checkpoint: install the extra (pip install 'jaxle[torch]') or bring the weights as .safetensors"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # it remarks on the pickle protocol of files that it then reads or refuses
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights file {path} holds more than tensors (or is damaged), and loading it could run code: refused; "
            "save its state_dict alone, best as .safetensors"
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        struct.error,
    ) as error:
        raise _damaged(path, error) from error
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not all(
        isinstance(tensor, torch.Tensor) for tensor in held.values()
    ):
        raise ValueError(
            f"weights file {path} holds a {type(held).__name__}; expected a state_dict of named tensors"
        )
    return {
        name: (t.float() if t.dtype == torch.bfloat16 else t).detach().numpy()
        for name, t in held.items()
    }


def convert(
    source: Mapping[str, np.ndarray],
    variables: Mapping,
    layouts: Mapping[str, Layout],
    name: str,
    *,
    resample: bool = False,
) -> dict:
    """Use it to put a file's tensors into a network's variables; the layout with the fewest mismatched names is taken.

    Args:
      source: flat name → array, from `read`.
      variables: nested dict of arrays or ShapeDtypeStructs, `{"params": …, "batch_stats": …}`: what must be filled.
      layouts: layout name → Layout.
      name: what to call the file in an error.
      resample: fit an image tower's position embeddings of another resolution by bilinear interpolation; otherwise they are a mismatch.

    Returns:
      Nested dict of float32 arrays of the shapes of `variables`.

    Raises:
      ValueError: names every unexpected source tensor, every unfilled parameter and every wrong shape at once.
    """
    expected = traverse_util.flatten_dict(variables, sep="/")
    read_as = (
        (label, _apply(layout, source, expected, resample)) for label, layout in layouts.items()
    )
    label, (found, problems) = min(read_as, key=lambda item: len(item[1][1]))
    if problems:
        listing = "\n  ".join(problems)
        raise ValueError(
            f"weights {name} do not fit the network (read as layout {label!r}); {len(problems)} mismatches:\n  {listing}"
        )
    return traverse_util.unflatten_dict(found, sep="/")


def _apply(
    layout: Layout, source: Mapping, expected: Mapping, resample: bool
) -> tuple[dict[str, np.ndarray], list[str]]:
    try:
        source = layout.prepare(dict(source))
    except (KeyError, ValueError, IndexError):  # not of this layout; the rows below say so by name
        pass
    rows = [(re.compile(row.pattern), row) for row in layout.renames]
    ignored = [re.compile(pattern) for pattern in layout.ignored]
    found, unexpected, wrong = {}, [], []
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
            unexpected.append(f"unexpected in the file: {name} {tuple(tensor.shape)}")
        for path, transform in targets:
            try:
                value = transform(tensor)
            except (ValueError, IndexError):
                value = tensor
            if resample and path.endswith("pos_embedding") and "/txt/" not in path:
                value = resample_positions(value, expected[path].shape[1])
            if tuple(value.shape) != tuple(expected[path].shape):
                need = tuple(expected[path].shape)
                wrong.append(
                    f"wrong shape: {name} {tuple(tensor.shape)} gives {tuple(value.shape)}; {path} needs {need}"
                )
            found[path] = value
    missing = [
        f"missing from the file: {path} {tuple(expected[path].shape)}"
        for path in expected
        if path not in found
    ]
    if not (unexpected or wrong or missing):
        found = {
            path: np.asarray(value, dtype=np.float32, order="C") for path, value in found.items()
        }
    return found, unexpected + missing + wrong


def resample_positions(positions: np.ndarray, tokens: int) -> np.ndarray:
    """1, tokens, width: a square grid of position embeddings brought to another size, bilinearly, corners on corners (as big_vision does).

    A first token that does not belong to the grid (a class token's) is kept. Without a square on both sides, the input is returned.
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


def weights_hash(path: str | Path) -> str:
    """Use it in fingerprints: sha256 (hex) of a file, or of a folder's file names and their sha256."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return _digest(
            f"{file.relative_to(path).as_posix()} {weights_hash(file)}\n".encode() for file in files
        )
    with path.open("rb") as file:
        return _digest(iter(lambda: file.read(1 << 20), b""))


def _digest(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
