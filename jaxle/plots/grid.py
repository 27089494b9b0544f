"""Image grids: pictures from every part of a neuron's range, real and simulated activation beneath.

    by bin     a column a bin, from zero to the maximum          (the paper's Figure 4)
    by rank    a column a rank: the 5th, 50th, 500th, 5,000th    (the paper's Figures 6–15)

The most active images alone make any explanation look right; those below say where it stops.
Oikarinen & Weng, ICML 2024, https://arxiv.org/abs/2405.06855.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, Real, UInt8
from PIL import Image

from jaxle.arrays import Array, check_equal_rows, checks_input
from jaxle.plots import style
from jaxle.plots.style import Axes, Figure
from jaxle.report.bins import (
    BINS,
    NO_IMAGE,
    RANKS,
    activation_bins,
    as_column,
    images_of_bins,
    images_of_ranks,
)

SIDE = 160  # pixels of a picture's longer side at most: 300 dpi at half an inch
_GAP = 0.06  # between pictures, of a picture's side
_MIDDLE = {"ha": "center", "va": "center"}


@checks_input
def image_grid_by_bin(
    images: Any,
    activations: Real[Array, " images"],
    simulated: Real[Array, " images"] | None = None,
    *,
    n_bins: int = BINS,
    n_images: int = 4,
    title: str = "",
    axes: Axes | None = None,
    width: float = style.PAGE,
) -> Figure:
    """Returns pictures of every bin of a neuron's activation, a column a bin.

    Within a bin they are at equal steps of rank, the most active first: none is chosen by hand.

    Args:
      images: what is indexed by an image's number and gives uint8 (height, width, 3) or
        (height, width), or a PIL image: an array, a list, an object. Only those drawn are read.
      activations: (images,) of one neuron.
      simulated: (images,) what its explanation predicts, in the same units; None for nothing.
      n_bins: of equal width, from 0 (or a negative minimum) to the maximum.
      n_images: pictures a bin.
      title: written above, such as the explanation.
      axes: where to draw; None makes a figure.
      width: of a figure of its own, in inches; `COLUMN` 3.25, `PAGE` 6.75.

    Raises:
      ValueError: as `activation_bins`; simulated values or images of another number; an image of
        another shape or dtype.
      ImportError: matplotlib is absent.
    """
    bins = activation_bins(activations, n_bins=n_bins)
    numbers = images_of_bins(activations, bins, _at_least_one("n_images", n_images))
    digits = _digits(bins.edges)
    heads = [
        (_range(left, right, digits), f"{n:,} image{'s' * (n != 1)}")
        for left, right, n in zip(
            bins.edges[:-1], bins.edges[1:], bins.counts.tolist(), strict=True
        )
    ]
    return _draw(images, activations, simulated, numbers, heads, title, axes, width)


@checks_input
def image_grid_by_rank(
    images: Any,
    activations: Real[Array, " images"],
    simulated: Real[Array, " images"] | None = None,
    *,
    ranks: Sequence[int] = RANKS,
    n_images: int = 3,
    title: str = "",
    axes: Axes | None = None,
    width: float = style.COLUMN,
) -> Figure:
    """Returns pictures at some ranks of a neuron's activation, a column a rank.

    Each column ends at its rank: that of rank 50 shows ranks 48, 49 and 50. Ranks beyond the
    number of images are left out.

    Args:
      images, activations, simulated, title, axes, width: as in `image_grid_by_bin`.
      ranks: from 1, the most active image.
      n_images: pictures a rank.

    Raises:
      ValueError: as `image_grid_by_bin`; ranks that are none, or all beyond the number of images.
      ImportError: matplotlib is absent.
    """
    numbers = images_of_ranks(activations, ranks, _at_least_one("n_images", n_images))
    some = (numbers != NO_IMAGE).any(axis=1)
    if not some.any():
        raise ValueError(f"ranks must lie among the {len(activations)} images, got {list(ranks)}.")
    heads = [(f"rank {int(r):,}",) for r, shown in zip(ranks, some, strict=True) if shown]
    return _draw(images, activations, simulated, numbers[some], heads, title, axes, width)


def _draw(
    images: Any,
    activations: Any,
    simulated: Any,
    numbers: Int64[np.ndarray, "columns rows"],
    heads: list[tuple[str, ...]],
    title: str,
    axes: Axes | None,
    width: float,
) -> Figure:
    """A column of pictures under each head; drawn in one Axes whose unit is a picture's side."""
    real = as_column(activations, "activations")
    other = None if simulated is None else as_column(simulated, "simulated")
    if other is not None:
        check_equal_rows(real, other, ("activations", "simulated"))
    if hasattr(images, "__len__") and len(images) != len(real):
        raise ValueError(
            f"images and activations must describe the same images, got {len(images)} "
            f"and {len(real)}."
        )
    captions = [(real, style.INK)] + ([] if other is None else [(other, style.BLUE)])
    digits = _digits(np.concatenate([values for values, _ in captions]))
    n_columns, n_rows = numbers.shape
    across = n_columns * (1 + _GAP) - _GAP
    width = style.checked(width) if axes is None else axes.bbox.width / axes.figure.dpi
    side = 72 * width / across  # points
    line = style.LINE * style.SMALL / side  # of text, in the axes' unit
    step, head = 1 + _GAP + line, line * len(heads[0])
    height = head + n_rows * step + (line if other is not None else 0)
    if axes is None:
        axes = style.new_axes(width, height / across, title, 1)
    axes.set(xlim=(0, across), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()
    style.heading(axes, title, share=1)
    size = _size(side, max(len(text) for lines in heads for text in lines))
    for i, lines in enumerate(heads):
        for j, text in enumerate(lines):
            how = style.font(size, style.FAINT if j else style.INK)
            axes.text(i * (1 + _GAP) + 0.5, (j + 0.5) * line, text, **_MIDDLE, **how)
    longest = max(
        len(style.number(x, digits)) for values, _ in captions for x in values[numbers].flat
    )
    size = _size(side, len(captions) * (longest + 1))
    for (i, j), number in np.ndenumerate(numbers):
        if number == NO_IMAGE:
            continue
        left, top = i * (1 + _GAP), head + j * step
        _show(axes, picture(images[int(number)]), left, top)
        for k, (values, colour) in enumerate(captions):
            x, text = left + (k + 0.5) / len(captions), style.number(float(values[number]), digits)
            axes.text(x, top + 1 + 0.45 * line, text, **_MIDDLE, **style.font(size, colour))
    if other is not None:
        y, how = height - 0.4 * line, {"va": "center"}
        first = axes.text(0, y, "real activation", **how, **style.font(style.SMALL))
        axes.annotate(
            "simulated activation", (1, 0.5), (8, 0), first, "offset points",
            **how, **style.font(style.SMALL, style.BLUE),
        )  # fmt: skip
    return axes.figure.get_figure(root=True)


def _show(axes: Axes, image: np.ndarray, left: float, top: float) -> None:
    """A picture in its square, its sides in their proportion."""
    height, width = (n / max(image.shape[:2]) for n in image.shape[:2])
    x, y = left + (1 - width) / 2, top + (1 - height) / 2
    axes.imshow(
        image, extent=(x, x + width, y + height, y), interpolation="none", aspect="equal",
        cmap="gray", vmin=0, vmax=255, origin="upper", clip_on=False,
    )  # fmt: skip


def picture(image: Any) -> UInt8[np.ndarray, "height width *channels"]:
    """Returns an image as an array of at most `SIDE` pixels a side.

    Args:
      image: uint8 (height, width, 3) or (height, width), NumPy or JAX, or a PIL image.

    Raises:
      ValueError: anything else.
    """
    if isinstance(image, Image.Image):
        image = image.convert("RGB")
    x = np.asarray(image)
    if (
        x.dtype != np.uint8
        or not (x.ndim == 2 or (x.ndim == 3 and x.shape[2] == 3))
        or 0 in x.shape
    ):
        raise ValueError(
            "an image must be uint8 of shape (height, width, 3) or (height, width), or a PIL "
            f"image; got {x.dtype} of shape {x.shape}."
        )
    if max(x.shape[:2]) > SIDE:
        small = Image.fromarray(x)
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        x = np.asarray(small)
    return x


def _range(low: float, high: float, digits: int) -> str:
    between = " to " if low < 0 else "–"
    return between.join(style.number(x, digits) for x in (low, high))


def _digits(values: np.ndarray) -> int:
    """Decimals for numbers up to the largest of these: two or three of its figures."""
    largest = float(np.abs(values).max())
    if largest == 0:
        return 1
    power = int(np.floor(np.log10(largest)))
    return max(2 - power, 0) if power >= 0 else min(1 - power, 6)


def _size(room: float, longest: int) -> float:
    """The font size at which the longest of some texts fits, in points as `room`."""
    return min(style.SMALL, room / (style.WIDTH * longest))


def _at_least_one(name: str, n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {n!r}.")
    return int(n)
