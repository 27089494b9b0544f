"""Directions of a file: .npy, .npz or .safetensors.

    f = act((v − mean) W + bias),   act = max(·, 0) with `relu`, else nothing

W is `directions` (width, units), or the file's only matrix; (units, width) is taken too where the
tap's width tells them apart. `bias` (units,), `mean` (width,), `relu` (a number, 0 or 1) and
`decoder`, shaped as `directions`, may stand beside it. A vector (width,) is one unit.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxle.models import checkpoints
from jaxle.models.units.linear import directions_map
from jaxle.models.units.unit_map import UnitMap

NAMES = ("directions", "bias", "mean", "relu", "decoder")
SHORTEST = 1e-18  # 1 / length² is a float32 number
SUFFIXES = (".npy", ".npz", ".safetensors")


def read_directions(path: str | Path, width: int) -> UnitMap:
    """Returns the units of a file.

    Args:
      path: .npy, .npz or .safetensors.
      width: columns of the tap.

    Raises:
      ValueError: another suffix, a damaged file, arrays that are missing, unknown, not numbers, not
        finite or of another shape, a direction that is 0 or too short.
    """
    path = Path(path).expanduser()
    held = _read(path)
    if "directions" not in held:
        matrices = [name for name, value in held.items() if value.ndim == 2]
        if len(matrices) != 1:
            raise ValueError(
                f"{path} holds {', '.join(held) or 'nothing'}: expected an array 'directions' "
                "(width, units), or one matrix."
            )
        held["directions"] = held.pop(matrices[0])
    if unknown := [name for name in held if name not in NAMES]:
        raise ValueError(
            f"{path} holds {', '.join(unknown)}, which directions have not: expected "
            f"{', '.join(NAMES)}."
        )
    for name, value in held.items():
        if value.dtype.kind not in "biuf" and value.dtype.name != "bfloat16":
            raise ValueError(f"{name} of {path} must hold numbers, got dtype {value.dtype}.")
        with np.errstate(over="ignore"):
            narrow = value.astype(np.float32)
        if not np.isfinite(narrow).all():
            far = np.isfinite(value.astype(np.float64)).all()
            got = "a number that float32 does not hold" if far else "NaN or infinity"
            raise ValueError(f"{name} of {path} must be finite, got {got}.")
    directions, decoder = (_rows(held, name, path, width) for name in ("directions", "decoder"))
    assert directions is not None, "looked for above"
    units = len(directions)
    if not (lengths := np.linalg.norm(directions, axis=1)).all():
        raise ValueError(
            f"direction {int(np.argmin(lengths))} of {path} is 0 everywhere: expected a direction."
        )
    if (shortest := float(lengths.min())) < SHORTEST:
        raise ValueError(
            f"direction {int(np.argmin(lengths))} of {path} has length {shortest:.3g}: expected at "
            f"least {SHORTEST:g}, for its change by 1 to be float32 numbers."
        )
    if decoder is not None and len(decoder) != units:
        raise ValueError(
            f"decoder of {path} has {len(decoder)} units, and directions {units}: expected as many."
        )
    vectors = {}
    for name, n in (("bias", units), ("mean", width)):
        value = held.get(name)
        if value is not None and value.shape != (n,):
            raise ValueError(f"{name} of {path} must have shape ({n},), got {value.shape}.")
        vectors[name] = value
    relu = held.get("relu", np.zeros(()))
    if relu.size != 1 or float(relu.reshape(())) not in (0.0, 1.0):
        raise ValueError(f"relu of {path} must be 0 or 1, got {relu.ravel()[:3].tolist()}.")
    return directions_map(
        "directions",
        directions,
        decoder,
        mean=vectors["mean"],
        bias=vectors["bias"],
        rectified=bool(relu.reshape(())),
        facts={"file": path.name},
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"directions {path} have suffix {path.suffix!r}: expected {', '.join(SUFFIXES)}."
        )
    if path.suffix == ".npy":
        try:
            with path.open("rb") as file:
                return {"directions": np.atleast_1d(np.load(file, allow_pickle=False))}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} cannot be read as .npy: it is damaged or pickled.") from error
    return checkpoints.read(path)


def _rows(held: dict[str, np.ndarray], name: str, path: Path, width: int) -> np.ndarray | None:
    """A matrix as (units, width); None where it is not there."""
    value = held.get(name)
    if value is None:
        return None
    value = value.astype(np.float64)
    if value.ndim == 1:
        value = value[:, None]
    if value.ndim != 2 or width not in value.shape or 0 in value.shape:
        raise ValueError(
            f"{name} of {path} has shape {value.shape}, and the tap {width} columns: expected "
            f"({width}, units)."
        )
    return value.T if value.shape[0] == width else value
