"""What another program computed of the images, as arrays in a folder: a run then needs no network.

    activations.npy            (images, neurons), of one tap, called `activations`
    activations.npz, .safetensors; activations/TAP.npy         of several taps, by their names
    head.npz, .safetensors     the linear layer behind a tap, the one of its width: weight
                               (classes, neurons) as torch has it, or weights (neurons, classes);
                               bias (classes,)
    head.TAP.npz               the same, where several taps have this width
    embeddings.npy             (images, numbers) by the one encoder of the config
    embeddings.npz, .safetensors; embeddings/MODEL.npy         of several, by the model's name
    concept_probs.npy          (images, concepts) from 0 to 1, of the names in concepts.txt

Real numbers of any dtype that NumPy reads. Files of NumPy are mapped, not read; nothing is
unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real
from safetensors import SafetensorError
from safetensors.numpy import load_file

from jaxle.arrays import as_matrix, as_probabilities
from jaxle.data.names import read_names

ONE = "activations"  # the name of a tap that has none
KINDS = ("npy", "npz", "safetensors")
_HEAD = r"head(\..*)?\.(npz|safetensors)"


class Head(NamedTuple):
    """The linear layer behind a tap: logits = activations · weights + bias."""

    tap: str
    weights: Float[np.ndarray, "neurons classes"]
    bias: Float[np.ndarray, " classes"]


class Recorded(NamedTuple):
    """What a folder holds beside pictures.

    Attributes:
      activations: tap → (images, neurons).
      embeddings: the model's name, or "" for the only encoder → (images, numbers).
      concept_probs: names and (images, concepts), or None.
      head: what is behind one of the taps, or None.
    """

    activations: Mapping[str, Real[np.ndarray, "images neurons"]]
    embeddings: Mapping[str, Real[np.ndarray, "images numbers"]]
    concept_probs: tuple[tuple[str, ...], Real[np.ndarray, "images concepts"]] | None
    head: Head | None = None

    @property
    def n_images(self) -> int | None:
        """How many images the arrays are of; None where there is none."""
        arrays = [*self.activations.values(), *self.embeddings.values()]
        arrays += [] if self.concept_probs is None else [self.concept_probs[1]]
        return len(arrays[0]) if arrays else None

    def of(self, index: Int[np.ndarray, " some"]) -> Recorded:
        """Returns the same of some images."""
        probs = self.concept_probs
        return self._replace(
            activations={tap: x[index] for tap, x in self.activations.items()},
            embeddings={name: x[index] for name, x in self.embeddings.items()},
            concept_probs=None if probs is None else (probs[0], probs[1][index]),
        )


def read_recorded(folder: Path, n_images: int | None) -> tuple[Recorded | None, list[Path]]:
    """Returns what a folder holds of these kinds, None for nothing, and the files.

    Args:
      folder: where to look.
      n_images: how many images there are pictures of; None where there are no pictures.

    Raises:
      ValueError: an array that is no finite real matrix, of other images than the others, a head
        that fits no tap or several, probabilities without names.
    """
    activations, files = _arrays(folder, "activations", ONE)
    embeddings, more = _arrays(folder, "embeddings", "")
    files += more
    probs, path = None, folder / "concept_probs.npy"
    if path.exists():
        if not (folder / "concepts.txt").exists():
            raise ValueError(f"{path} has no concepts.txt beside it; expected one name a column")
        names = read_names(folder / "concepts.txt")
        values = _matrix(_load(path), path.name, folder, ("images", "concepts"))
        if values.shape[1] != len(names):
            raise ValueError(
                f"{path} has {values.shape[1]} columns, and concepts.txt {len(names)} names; "
                "expected one name a column"
            )
        probs, files = (names, values), [*files, path]
    found = Recorded(activations, embeddings, probs)
    _check_counts(folder, found, n_images)
    heads = [path for path in folder.glob("head*") if re.fullmatch(_HEAD, path.name)]
    if len(heads) > 1:
        names = ", ".join(sorted(path.name for path in heads))
        raise ValueError(f"arrays:{folder}: holds {names}; expected one head")
    if found.n_images is None and not heads:
        return None, []
    head = _head(heads[0], activations) if heads else None
    return found._replace(head=head), files + heads


def _check_counts(folder: Path, found: Recorded, n_images: int | None) -> None:
    wanted, first = n_images, "images.npy holds"
    if n_images is None:
        wanted, first = found.n_images, "the first array is of"
    counted = {f"activations of {tap!r}": len(x) for tap, x in found.activations.items()}
    counted |= {_called("embeddings", name): len(x) for name, x in found.embeddings.items()}
    if found.concept_probs is not None:
        counted["concept_probs"] = len(found.concept_probs[1])
    for what, n in counted.items():
        if n != wanted:
            raise ValueError(
                f"arrays:{folder}: {what} are of {n} images, and {first} {wanted}; "
                "expected the same images in the same order"
            )


def _arrays(folder: Path, stem: str, alone: str) -> tuple[dict[str, np.ndarray], list[Path]]:
    """Name → array of one kind, and the files."""
    files = [folder / f"{stem}.{kind}" for kind in KINDS]
    files = [path for path in files if path.exists()]
    inside = folder / stem
    parts = sorted(inside.rglob("*.npy")) if inside.is_dir() else []
    if len(files) + bool(parts) > 1:
        others = ", ".join(path.name for path in files) + (f", {stem}/" if parts else "")
        raise ValueError(f"arrays:{folder}: holds {others}; expected {stem} in one form")
    if parts:
        names = [path.relative_to(inside).with_suffix("").as_posix() for path in parts]
        found = {name: _load(path) for name, path in zip(names, parts, strict=True)}
    elif files:
        found = {alone: _load(files[0])} if files[0].suffix == ".npy" else _several(files[0])
    else:
        return {}, []
    axes = ("images", "neurons" if stem == "activations" else "numbers")
    checked = {name: _matrix(x, _called(stem, name), folder, axes) for name, x in found.items()}
    return checked, parts or files


def _called(stem: str, name: str) -> str:
    """What an array is called in a message."""
    return f"{stem} of {name!r}" if name else stem


def _matrix(x: Any, what: str, folder: Path, axes: tuple[str, str]) -> np.ndarray:
    """A finite real matrix, of probabilities where its columns are concepts."""
    check: Any = as_probabilities if axes[1] == "concepts" else as_matrix
    try:
        return check(x, what, axes)
    except ValueError as error:
        sentence = str(error).partition("; give raw_features")[0]
        raise ValueError(f"arrays:{folder}: {sentence}") from None


def _head(path: Path, activations: Mapping[str, np.ndarray]) -> Head:
    arrays = _several(path)
    weights = arrays["weight"].T if "weight" in arrays else arrays.get("weights")
    bias = arrays.get("bias")
    if weights is None or bias is None:
        raise ValueError(
            f"{path} holds {', '.join(arrays) or 'nothing'}; expected weight (classes, neurons) or "
            "weights (neurons, classes), and bias (classes,)"
        )
    if weights.ndim != 2 or bias.shape != weights.shape[1:]:
        raise ValueError(
            f"{path}: weights of shape {weights.shape} (neurons, classes) and a bias of shape "
            f"{bias.shape} do not fit; expected one number a class"
        )
    weights, bias = (_float32(x, path) for x in (weights, bias))
    named = path.name.removesuffix(path.suffix).partition(".")[2]
    taps = [tap for tap, x in activations.items() if x.shape[1] == len(weights)]
    wanted = [tap for tap in taps if not named or tap.replace("/", ".") == named]
    if len(wanted) != 1:
        fit = ", ".join(f"{tap} ({x.shape[1]})" for tap, x in activations.items()) or "none"
        raise ValueError(
            f"{path} is of {len(weights)} neurons, and the taps are {fit}; expected it to fit one, "
            "or head.TAP.npz, named by its tap"
        )
    return Head(wanted[0], weights, bias)


def _float32(x: np.ndarray, path: Path) -> np.ndarray:
    """Real numbers as float32, or a ValueError."""
    if x.dtype.kind not in "biuf" and x.dtype.name != "bfloat16":
        raise ValueError(f"{path} holds {x.dtype}; expected real numbers")
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"{path} holds a value that is not finite, or too large for float32")
    return x


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}; expected a plain array") from None


def _several(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read {path}: {reason}; expected plain arrays") from None
    if not found:
        raise ValueError(f"{path} holds no array")
    return found
