"""Images of smooth coloured noise in class folders: a run is rehearsed at full size without data.

    image i = Σ over grids of 2, 4, 8, … cells of noise, enlarged to the image's size, each half as
              strong as the one before

An image depends on (seed, i) alone. Images mean nothing, and neither do the numbers of a run on
them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxle import artifacts

_DONE = "generated.json"  # written last: without it the folder is unfinished
_EACH = 4  # images a class, so that classes and their superclasses differ in how often they occur
_SPEC = re.compile(r"generated:(\d+)")


def generated_count(spec: str) -> int | None:
    """Returns N of a data source "generated:N", whose N images are made when a run begins.

    None for any other source.
    """
    match = _SPEC.fullmatch(spec)
    return int(match[1]) if match else None


def generate_folder(
    folder: str | os.PathLike[str],
    n: int,
    class_names: Sequence[str],
    seed: int = 0,
    size: tuple[int, int] = (375, 500),
) -> Path:
    """Returns a folder of generated images, to be opened as `folder:PATH`.

    Args:
      folder: where such folders are kept; one that is there and whole is used again.
      n: images, at least 2.
      class_names: the network's classes, of which the first n/4 (at least 2) have images; empty for
        a network without any.
      seed: of the images.
      size: their height and width, pixels.

    Returns:
      The folder with one subfolder a class and `classes.txt`.

    Raises:
      ValueError: fewer than 2 images, or a single class.
    """
    if n < 2:
        raise ValueError(
            f"data source generated:{n} asks for {n} images; "
            "expected at least 2, such as generated:48"
        )
    names = list(class_names) or [f"class {i}" for i in range(n)]
    if len(names) < 2:
        raise ValueError(f"images are generated for the classes {names}; expected at least 2")
    names = names[: max(2, n // _EACH)]
    facts = {"n": n, "classes": names, "seed": seed, "size": list(size)}
    path = Path(folder) / f"images-{artifacts.fingerprint(facts)}"
    if (path / _DONE).is_file():
        return path
    for i in range(n):
        _save(path / f"{i * len(names) // n:04d}" / f"{i:06d}.jpg", draw(seed, i, size))
    artifacts.write_text(path / "classes.txt", "\n".join(names) + "\n")
    artifacts.write_json(path / _DONE, facts)
    return path


def _save(path: Path, image: np.ndarray) -> None:
    def write(file: IO[bytes]) -> None:
        Image.fromarray(image).save(file, format="JPEG", quality=90)

    artifacts.write_file(path, write)


def draw(seed: int, i: int, size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """Returns one image, uint8 (height, width, 3), 0–255; the same for the same seed and i."""
    height, width = size
    noise = np.random.default_rng((seed, i))
    image = np.full((height, width, 3), 128.0) + 40 * noise.normal(size=3)
    cells, strength = 2, 60.0
    while cells <= min(height, width) // 8:
        for channel in range(3):
            grid = Image.fromarray(noise.normal(size=(cells, cells)).astype(np.float32))
            image[..., channel] += strength * np.asarray(
                grid.resize((width, height), Image.Resampling.BICUBIC)
            )
        cells, strength = 2 * cells, strength / 2
    return np.clip(image, 0, 255).astype(np.uint8)
