"""Checkpoint files and folders read into flat name → array dicts.

    .npz          flat keys such as "params/layer1/0/conv1/kernel" (big_vision writes these)
    .safetensors  one file, or a Hugging Face folder with an index of shards
    .msgpack      Flax
    folder        Hugging Face's, orbax's, or a CheckpointManager's, whose last step is taken
    torch         .pth, .pt, .th, .pth.tar, .bin, .ckpt, by `torch.load(weights_only=True)` only

Nothing in a file is ever executed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import serialization
from jaxtyping import Shaped

TORCH_SUFFIXES = (".pth", ".pt", ".th", ".tar", ".bin", ".ckpt")
SUFFIXES = (".npz", ".safetensors", ".msgpack", *TORCH_SUFFIXES)
# What wraps a module: DataParallel, torch.compile.
WRAPPERS = ("module.", "_orig_mod.")
# Keys under which training programs put a state_dict.
_NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
_HUB_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
_NAMED = 5  # names in a message

Tensors = dict[str, Shaped[np.ndarray, "..."]]


def read(path: str | Path) -> Tensors:
    """Returns what a checkpoint holds.

    Args:
      path: a file with one of the suffixes in `SUFFIXES`, or a folder of Hugging Face's or orbax's
        making; of a folder of steps, the last one.

    Returns:
      Name → array, as the file names them, "module." of torch's DataParallel and "_orig_mod." of
      torch.compile removed.

    Raises:
      ValueError: another suffix, or a file that is damaged, truncated, would run code, or holds
        numbers in a format that cannot be read (float8, quantised).
      ImportError: torch is needed and absent; the extra is named.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(_of_other_kind(path))
    if suffix == ".npz":
        tensors = _read_npz(path)
    elif suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif suffix == ".msgpack":
        tensors = _read_msgpack(path)
    else:
        tensors = read_torch(path)
    return unwrapped(tensors, WRAPPERS)


def unreadable(name: str | Path) -> str | None:
    """Returns a sentence where a file of this name cannot be read by `read` as things are, else
    None: another suffix, or torch's while torch is not installed. Folders are not looked into."""
    path = Path(name)
    if path.is_dir() or (suffix := path.suffix.lower()) in SUFFIXES[: -len(TORCH_SUFFIXES)]:
        return None
    if suffix not in TORCH_SUFFIXES:
        return _of_other_kind(path)
    return None if importlib.util.find_spec("torch") else _needs_torch(path)


def _of_other_kind(path: Path) -> str:
    return f"weights file {path} has suffix {path.suffix!r}; readable are {', '.join(SUFFIXES)}"


def _needs_torch(path: Path) -> str:
    return (
        f"{path.name} is a torch checkpoint: install the extra (pip install 'jaxle[torch]') "
        "or bring the weights as .safetensors"
    )


def unwrapped(tensors: Mapping[str, Any], prefixes: Iterable[str]) -> dict[str, Any]:
    """Returns the tensors without the prefixes that all their names carry, however nested."""
    found = dict(tensors)
    prefixes = tuple(prefixes)
    while prefix := next(
        (p for p in prefixes if found and all(n.startswith(p) for n in found)), ""
    ):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def shard_names(index: Path) -> list[str]:
    """Returns the files over which a Hugging Face index (`model.safetensors.index.json`) spreads
    its tensors. Raises ValueError if it is damaged."""
    try:
        return sorted(
            {Path(shard).name for shard in json.loads(index.read_text())["weight_map"].values()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(index, error) from error


def weights_hash(path: str | Path) -> str:
    """Returns the sha256 (hex) of a file, or of a folder's file names and their sha256."""
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return _digest(
            f"{file.relative_to(path).as_posix()} {weights_hash(file)}\n".encode() for file in files
        )
    with path.open("rb") as file:
        return _digest(iter(lambda: file.read(1 << 20), b""))


def tensors_hash(tensors: Tensors) -> str:
    """Returns the sha256 (hex) of names, dtypes, shapes and values."""
    return _digest(
        part
        for name, tensor in sorted(tensors.items())
        for part in (
            f"{name} {tensor.dtype} {tensor.shape}\n".encode(),
            np.ascontiguousarray(tensor).tobytes(),
        )
    )


def _digest(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return ValueError(
        f"weights file {path} cannot be read, it may be damaged or truncated: {reason}"
    )


def _unreadable(path: Path, names: Iterable[str], format: str) -> ValueError:
    names = list(names)
    return ValueError(
        f"weights {path} hold {len(names)} tensors in {format} ({', '.join(names[:_NAMED])}"
        f"{', …' if len(names) > _NAMED else ''}), which is not read: their scales may lie "
        "elsewhere; save them as bfloat16 or float32"
    )


def _read_folder(path: Path) -> Tensors:
    """A Hugging Face folder (one file, or an index of shards), or a folder that orbax wrote."""
    if (path / "model.safetensors.index.json").is_file():
        shards = shard_names(path / "model.safetensors.index.json")
        return {name: tensor for shard in shards for name, tensor in read(path / shard).items()}
    for name in _HUB_FILES:
        if (path / name).is_file():
            return read(path / name)
    return _read_orbax(_orbax_item(path))


def _orbax_item(path: Path) -> Path:
    """The folder with orbax's `_METADATA`: this one, or the one of its last step."""
    if (path / "_METADATA").is_file():
        return path
    folders = [folder for folder in path.iterdir() if folder.is_dir()]
    steps = {
        int(match[1]): folder
        for folder in folders
        if (match := re.fullmatch(r"(?:\w+_)?(\d+)", folder.name))
    }
    if steps:
        return _orbax_item(steps[max(steps)])
    items = sorted(folder.name for folder in folders if (folder / "_METADATA").is_file())
    if len(items) == 1:
        return path / items[0]
    if items:
        raise ValueError(
            f"weights folder {path} holds several orbax items: {', '.join(items)}; "
            f"give the one with the parameters, such as {path / items[0]}"
        )
    raise ValueError(
        f"weights folder {path} holds neither model.safetensors nor an orbax checkpoint (_METADATA)"
    )


def _read_orbax(path: Path) -> Tensors:
    """Arrays are restored as NumPy: those saved over several devices are read on any number."""
    import jax
    import orbax.checkpoint

    checkpointer = orbax.checkpoint.PyTreeCheckpointer()
    path = path.absolute()
    try:
        saved = checkpointer.metadata(path)
        tree = getattr(saved, "item_metadata", None) or saved
        arguments = jax.tree.map(
            lambda _: orbax.checkpoint.RestoreArgs(restore_type=np.ndarray), tree
        )
        restored = checkpointer.restore(path, restore_args=arguments)
    except (ValueError, KeyError, OSError) as error:
        raise _damaged(path, error) from error
    return flatten(restored)


def flatten(tree: Any, path: str = "") -> Tensors:
    """Returns a tree of dicts and lists as path → array, parts joined by "/"; None is no array."""
    if tree is None:
        return {}
    if not isinstance(tree, (Mapping, list, tuple)):
        return {path: np.asarray(tree)}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
    found: Tensors = {}
    for name, part in items:
        found |= flatten(part, f"{path}/{name}" if path else str(name))
    return found


def _read_npz(path: Path) -> Tensors:
    try:
        with path.open("rb") as handle:  # np.load would leave a damaged file open
            file = np.load(handle, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("not a zip archive")
            tensors = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error
    if eighths := [name for name, tensor in tensors.items() if tensor.dtype == "V1"]:
        raise _unreadable(path, eighths, "float8")
    # NumPy stores bfloat16, which it does not know, as two raw bytes.
    return {
        name: tensor.view(jnp.bfloat16) if tensor.dtype == "V2" else tensor
        for name, tensor in tensors.items()
    }


def _read_safetensors(path: Path) -> Tensors:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load_file

    try:
        with safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}
        if eighths := [name for name, kind in kinds.items() if kind.startswith("F8")]:
            raise _unreadable(path, eighths, "float8")
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_msgpack(path: Path) -> Tensors:
    import msgpack

    try:
        tree = serialization.msgpack_restore(path.read_bytes())
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise _damaged(path, error) from error
    return flatten(tree)


def read_torch(path: Path, file: io.BytesIO | None = None) -> Tensors:
    """Returns what a torch file holds, by `torch.load(weights_only=True)`.

    Args:
      path: the file, and what errors call it.
      file: the bytes to read in its place, where something stands before them.

    Raises:
      ValueError, ImportError: as `read`.
    """
    import pickle

    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(_needs_torch(path)) from error
    try:
        with warnings.catch_warnings():
            # It remarks on the pickle protocol of files that it then reads or refuses.
            warnings.simplefilter("ignore", UserWarning)
            held = torch.load(file or path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"weights file {path} holds more than tensors (or is damaged), and loading it could "
            "run code: refused; save its state_dict alone, best as .safetensors"
        ) from error
    except RuntimeError as error:
        if "TorchScript" in str(error):
            raise ValueError(
                f"weights file {path} is a TorchScript program, which is not run here: save its "
                "tensors with torch.save(torch.jit.load(path).state_dict(), 'weights.pth')"
            ) from error
        raise _damaged(path, error) from error
    except (
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        struct.error,
    ) as error:
        raise _damaged(path, error) from error
    held = _state_dict(path, held, torch.Tensor)
    plain = (torch.float16, torch.float32, torch.float64)
    odd = {
        name: str(t.dtype).removeprefix("torch.")
        for name, t in held.items()
        if t.is_quantized or t.is_complex() or "float8" in str(t.dtype)
    }
    if odd:
        raise _unreadable(path, odd, " and ".join(sorted(set(odd.values()))))
    return {
        name: (t.float() if t.is_floating_point() and t.dtype not in plain else t).detach().numpy()
        for name, t in held.items()
    }


def _state_dict(path: Path, held: Any, tensor: type) -> Mapping[str, Any]:
    """The dict of named tensors in what a training program saved."""
    if not isinstance(held, Mapping):
        raise ValueError(
            f"weights file {path} holds a {type(held).__name__}; "
            "expected a state_dict of named tensors"
        )
    while key := next((key for key in _NESTED if isinstance(held.get(key), Mapping)), None):
        held = held[key]
    others = {name: value for name, value in held.items() if not isinstance(value, tensor)}
    if not others:
        return held
    nested = [str(name) for name, value in others.items() if isinstance(value, Mapping)]
    what = (
        f"dicts named {', '.join(nested[:_NAMED])}"
        if nested
        else f"values that are no tensors: {', '.join(map(str, list(others)[:_NAMED]))}"
    )
    raise ValueError(
        f"weights file {path} holds {what}; expected a state_dict of named tensors, "
        f"alone or under one of the keys {', '.join(_NESTED)}"
    )
