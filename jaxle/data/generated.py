"""Pictures of smooth coloured noise in class folders: a run is rehearsed at full size without a data set.

    picture i = Σ over grids of 2, 4, 8, … cells of noise, enlarged to the picture's size, each half as strong as the one before

A picture depends on (seed, i) alone. Pictures mean nothing, and neither do the numbers of a run on them.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxle import artifacts

_DONE = "generated.json"  # written last: without it the folder is unfinished
_EACH = 4  # pictures a class, so that classes and their superclasses differ in how often they occur


def generate_folder(
    folder: str | Path,
    n: int,
    class_names: Sequence[str],
    seed: int = 0,
    size: tuple[int, int] = (375, 500),
) -> Path:
    """Use it where a config says `data.source="generated:N"`: what it returns is opened as `folder:PATH`.

    Args:
      folder: where such folders are kept; one that is there and whole is used again.
      n: pictures, at least 2.
      class_names: the network's classes, of which the first n/4 (at least 2) have pictures; empty for a network without any.
      seed: of the pictures.
      size: their height and width.

    Returns:
      The folder with one subfolder a class and `classes.txt`.

    Raises:
      ValueError: fewer than 2 pictures, or a single class.
    """
    if n < 2:
        raise ValueError(
            f"data source generated:{n} asks for {n} pictures; expected at least 2, such as generated:48"
        )
    names = list(class_names) or [f"class {i}" for i in range(n)]
    if len(names) < 2:
        raise ValueError(f"pictures are generated for the classes {names}; expected at least 2")
    names = names[: max(2, n // _EACH)]
    facts = {"n": n, "classes": names, "seed": seed, "size": list(size)}
    path = Path(folder) / f"images-{artifacts.fingerprint(facts)}"
    if (path / _DONE).is_file():
        return path
    for i in range(n):
        picture = functools.partial(
            Image.fromarray(draw(seed, i, size)).save, format="JPEG", quality=90
        )
        artifacts.write_file(path / f"{i * len(names) // n:04d}" / f"{i:06d}.jpg", picture)
    artifacts.write_text(path / "classes.txt", "\n".join(names) + "\n")
    artifacts.write_json(path / _DONE, facts)
    return path


def draw(seed: int, i: int, size: tuple[int, int]) -> np.ndarray:
    """One picture: uint8 (height, width, 3), 0–255; the same for the same seed and i."""
    height, width = size
    noise = np.random.default_rng((seed, i))
    picture = np.full((height, width, 3), 128.0) + 40 * noise.normal(size=3)
    cells, strength = 2, 60.0
    while cells <= min(height, width) // 8:
        for channel in range(3):
            grid = Image.fromarray(noise.normal(size=(cells, cells)).astype(np.float32))
            picture[..., channel] += strength * np.asarray(
                grid.resize((width, height), Image.Resampling.BICUBIC)
            )
        cells, strength = 2 * cells, strength / 2
    return np.clip(picture, 0, 255).astype(np.uint8)
