"""The scenes world: 64×64 images of one to three objects, with exact labels for every concept.

Image i of world `seed` depends on (seed, i) only, bit for bit, on every platform: rendering has no
state, so access is random.

    image = background;  for each object, smallest last:  image ← image + coverage·(paint − image)

with coverage and shading from the shape's signed distance (`shapes`), paint from colour and pattern
(`patterns`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int8, Int32, Int64, UInt8

from jaxle.arrays import checks_input
from jaxle.scenes import draws
from jaxle.scenes.layout import SIDE, Layout, class_ids, layout, membership
from jaxle.scenes.patterns import ACCENT, COSINE, SINE
from jaxle.scenes.places import backgrounds
from jaxle.scenes.shapes import DISTANCE
from jaxle.scenes.vocabulary import COLOURS, CONCEPTS

CHUNK = 128  # images at a time
_PATCH = 38  # pixels; holds the largest object and its shadow
_TURNS = 15  # objects lean by up to this many 256ths of a turn

_PAINT = {
    "red": (205, 38, 42),
    "orange": (242, 130, 28),
    "yellow": (246, 214, 48),
    "green": (52, 158, 66),
    "blue": (46, 98, 206),
    "purple": (132, 62, 172),
    "pink": (244, 148, 186),
    "brown": (122, 76, 42),
    "white": (244, 244, 240),
    "black": (36, 36, 42),
}
# An object's pattern is in a tone of its own colour: darker for these, lighter for the others.
_DARK_ACCENT = ("orange", "yellow", "pink", "white")
_BASE = np.array([_PAINT[name] for name in COLOURS], np.float32)
_TONE = np.array(
    [
        [c * 0.42 for c in _PAINT[name]]
        if name in _DARK_ACCENT
        else [c * 0.38 + 152 for c in _PAINT[name]]
        for name in COLOURS
    ],
    np.float32,
)


class Scenes(NamedTuple):
    """Rendered images and all that is true of them."""

    images: UInt8[np.ndarray, "images 64 64 3"]  # 0–255
    class_ids: Int32[np.ndarray, " images"]  # numbers of CLASS_NAMES
    concept_labels: UInt8[np.ndarray, "images concepts"]  # 0 or 1, in the order of CONCEPTS


@checks_input
def check_index(index: Int[np.ndarray, " images"]) -> Int64[np.ndarray, " images"]:
    """Returns `index` as int64 (images,), or raises a ValueError that says what it must be."""
    index = np.asarray(index)
    if index.ndim != 1 or not (np.issubdtype(index.dtype, np.integer) or index.size == 0):
        raise ValueError(
            f"index must be a 1-D array of whole numbers, got {index.dtype} of shape {index.shape}"
        )
    if index.size and index.min() < 0:
        raise ValueError(f"index must not be negative, got {index.min()}")
    return index.astype(np.int64)


@checks_input
def render(index: Int[np.ndarray, " images"], seed: int) -> Scenes:
    """Returns the images and labels of the scenes `index` of the world `seed`.

    Takes about a third of a millisecond an image on one core.

    Args:
      index: int (images,), in any order, repeats allowed.
      seed: of the world.

    Raises:
      ValueError: an index that is not 1-D, whole and non-negative.
    """
    index = check_index(index)
    images = np.empty((len(index), SIDE, SIDE, 3), np.uint8)
    classes = np.empty(len(index), np.int32)
    labels = np.empty((len(index), len(CONCEPTS)), np.uint8)
    for start in range(0, len(index), CHUNK):
        rows = slice(start, start + CHUNK)
        scenes = layout(index[rows], seed)
        images[rows], _ = paint(index[rows], seed, scenes)
        classes[rows] = class_ids(scenes)
        labels[rows] = membership(scenes).any(axis=1)
    return Scenes(images, classes, labels)


def paint(
    index: Int[np.ndarray, " images"], seed: int, scenes: Layout
) -> tuple[UInt8[np.ndarray, "images 64 64 3"], Int8[np.ndarray, "images 64 64"]]:
    """Returns the images of the given scenes, and which object each pixel shows.

    Args:
      index, seed: as for `render`.
      scenes: of `layout`.

    Returns:
      images, uint8 0–255, and for every pixel a slot, or -1 for the background.
    """
    canvas = backgrounds(index, seed, scenes.place)
    owner = np.full((len(index), SIDE, SIDE), -1, np.int8)
    image, slot = np.nonzero(scenes.present)
    words = draws.bits(index, seed, 3, 24)[image].reshape(len(image), 3, 8)[
        np.arange(len(image)), slot
    ]
    left, top, coverage, shadow, colour = _objects(scenes, image, slot, words)

    windows = np.lib.stride_tricks.sliding_window_view(
        canvas, (_PATCH, _PATCH), axis=(2, 3), writeable=True
    )
    owners = np.lib.stride_tricks.sliding_window_view(
        owner, (_PATCH, _PATCH), axis=(1, 2), writeable=True
    )
    for number in range(scenes.present.shape[1] - 1, -1, -1):
        of = np.flatnonzero(slot == number)
        at = image[of], top[of], left[of]
        under = windows[at[0], :, at[1], at[2]] * shadow[of, None]
        windows[at[0], :, at[1], at[2]] = under + coverage[of, None] * (colour[of] - under)
        owners[at] = np.where(coverage[of] >= 0.5, np.int8(number), owners[at])
    np.clip(canvas + np.float32(0.5), 0, 255, out=canvas)
    return canvas.astype(np.uint8).transpose(0, 2, 3, 1), owner


def _objects(
    scenes: Layout, image: np.ndarray, slot: np.ndarray, words: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    # each object on its own patch: left, top (objects,); coverage, shadow (objects, patch, patch);
    # colour (objects, 3, patch, patch)
    x, y, radius = (values[image, slot] for values in (scenes.x, scenes.y, scenes.radius))
    left, top = (
        np.clip(np.floor(v).astype(np.int64) - _PATCH // 2, 0, SIDE - _PATCH) for v in (x, y)
    )
    lean = draws.choice(words[:, 0], 2 * _TURNS + 1) - _TURNS
    cosine, sine = COSINE[lean][:, None, None], SINE[lean][:, None, None]
    ramp = np.arange(_PATCH, dtype=np.float32) + np.float32(0.5)
    across = ((left - x).astype(np.float32)[:, None] + ramp)[:, None, :]
    down = ((top - y).astype(np.float32)[:, None] + ramp)[:, :, None]
    u, v = across * cosine + down * sine, down * cosine - across * sine

    # silhouettes, in pixels
    distance = np.empty_like(u)
    size = radius[:, None, None]
    shape = scenes.shape[image, slot]
    for number, measure in enumerate(DISTANCE.values()):
        of = np.flatnonzero(shape == number)
        if len(of):
            distance[of] = measure(u[of] / size[of], v[of] / size[of]) * size[of]
    coverage = np.clip(0.5 - distance, 0, 1)

    # the pattern, shifted against the object and turned by whole eighths
    accent = np.zeros_like(u)
    texture = scenes.texture[image, slot]
    eighth = 32 * draws.choice(words[:, 1], 4)
    scale = draws.uniform(words[:, 2], 0.9, 1.15)[:, None, None]
    shift = draws.uniform(words[:, 3:5], 0, 8)[:, :, None, None]
    for number, pattern in enumerate(ACCENT.values(), start=1):
        of = np.flatnonzero(texture == number)
        if len(of):
            turn_cosine, turn_sine = (
                COSINE[eighth[of]][:, None, None],
                SINE[eighth[of]][:, None, None],
            )
            s, t = u[of] * turn_cosine + v[of] * turn_sine, v[of] * turn_cosine - u[of] * turn_sine
            accent[of] = pattern(s + shift[of, 0], t + shift[of, 1], scale[of])
    number = scenes.colour[image, slot]
    tint = draws.uniform(words[:, 5:8], -14, 14)
    base, tone = ((table[number] + tint)[:, :, None, None] for table in (_BASE, _TONE))

    # light from the upper left, a darker rim, a soft shadow around
    light = 1 - (across + down) * (np.float32(0.13) / size)
    light *= 1 - np.float32(0.3) * np.clip(1 + (distance + 0.6) * np.float32(0.8), 0, 1)
    shadow = 1 - np.float32(0.34) * np.clip(1 - distance * np.float32(0.34), 0, 1)
    colour = np.clip((base + (tone - base) * accent[:, None]) * light[:, None], 0, 255)
    return left, top, coverage, shadow, colour
