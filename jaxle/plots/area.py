"""The area chart: what a neuron's images show, from its lowest activation to its highest.

    share of images   ▏      ______ snowmobile
                      ▏_____/______ ski
                      ▏____________ none of these
                        0 → maximum

The paper's Figure 3: eight equal bins of the range, and per bin the share of images in which each
concept is present. Where several are present in one image, it counts for each in equal parts, so
that a stack ends at 100 %. Oikarinen & Weng, ICML 2024, https://arxiv.org/abs/2405.06855.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from jaxle.arrays import Array, checks_input, take_names
from jaxle.plots import style
from jaxle.plots.style import Axes, Figure
from jaxle.report.bins import BINS, Bins, activation_bins

NONE = "none of these"
_DIVIDED = "\n(overlaps divided)"


@checks_input
def area_chart(
    activations: Real[Array, " images"],
    concept_values: Real[Array, "images concepts"],
    concepts: Sequence[str] | None = None,
    *,
    n_bins: int = BINS,
    title: str = "",
    axes: Axes | None = None,
    width: float = style.COLUMN,
) -> Figure:
    """Returns an area chart of one neuron: which concepts its images show, by activation.

    The concepts of its explanation are what one would give, in their order: the first one is the
    lowest area. Beyond seven, those of least area are drawn as one. Bins without an image stay
    white. The numbers are `jaxle.report.bins.activation_bins`'s.

    Args:
      activations: (images,) of one neuron.
      concept_values: (images, concepts), labels of 0 and 1 or probabilities.
      concepts: the columns' names; None takes those of a frame.
      n_bins: of equal width, from 0 (or a negative minimum) to the maximum.
      title: written above, such as the explanation.
      axes: where to draw; None makes a figure.
      width: of a figure of its own, in inches; `COLUMN` 3.25, `PAGE` 6.75.

    Raises:
      ValueError: as `activation_bins`; names and columns that differ in number.
      ImportError: matplotlib is absent.
    """
    names = [str(name) for name in take_names(concepts, concept_values)]
    bins = activation_bins(activations, concept_values, n_bins)
    if len(names) != bins.parts.shape[1]:
        raise ValueError(
            f"concepts must name the {bins.parts.shape[1]} columns of concept_values, "
            f"got {len(names)} names."
        )
    axes = axes if axes is not None else style.new_axes(width, 0.6, title)
    names, parts = _fewer(names, bins.parts)
    stack = np.concatenate(
        [np.zeros((1, n_bins)), np.cumsum(parts.T, axis=0), np.ones((1, n_bins))]
    )
    colours = [*style.PALETTE[: len(names)], style.EMPTY]
    edges = _drawn_edges(bins)
    for x, columns in _stretches(edges, bins.counts > 0):
        for i, colour in enumerate(colours):
            below, above = stack[i, columns], stack[i + 1, columns]
            axes.fill_between(x, below, above, facecolor=colour, edgecolor="white", linewidth=0.4)
    style.frame(axes)
    divided = not np.allclose(bins.parts, bins.shares, atol=1e-9)
    style.label(axes, "activation", f"share of images{divided * _DIVIDED}")
    style.heading(axes, title, style.LINE * style.SMALL + 2)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1), yticks=(0, 0.5, 1))
    axes.set_yticklabels(["0", "50 %", "100 %"])
    _count(axes, edges, bins)
    _name(axes, [style.drawable(name) for name in [*names, NONE]], colours, stack[:, -1])
    return axes.figure.get_figure(root=True)


def _fewer(names: list[str], parts: np.ndarray) -> tuple[list[str], np.ndarray]:
    """As many areas as there are colours: those of least area as one, behind the others."""
    most = len(style.PALETTE)
    if len(names) <= most:
        return names, parts
    ranked = np.argsort(-parts.sum(axis=0), kind="stable")
    kept, rest = np.sort(ranked[: most - 1]), ranked[most - 1 :]
    names = [*(names[i] for i in kept), f"{len(rest)} other concepts"]
    return names, np.concatenate([parts[:, kept], parts[:, rest].sum(1, keepdims=True)], axis=1)


def _drawn_edges(bins: Bins) -> Float64[np.ndarray, " edges"]:
    """The edges; of a constant neuron, whose range is empty, as if it were 1 wide."""
    width = bins.edges[-1] - bins.edges[0]
    return bins.edges + (np.linspace(-0.5, 0.5, len(bins.edges)) if width == 0 else 0)


def _stretches(edges: np.ndarray, has_images: np.ndarray) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Runs of bins with images: the x of their outer edges and middles, and the bin at each x."""
    bounds = np.flatnonzero(np.diff(np.concatenate([[0], has_images.astype(np.int8), [0]])))
    for first, end in bounds.reshape(-1, 2):
        middles = (edges[first:end] + edges[first + 1 : end + 1]) / 2
        x = np.concatenate([edges[first : first + 1], middles, edges[end : end + 1]])
        yield x, [first, *range(first, end), end - 1]


def _count(axes: Axes, edges: np.ndarray, bins: Bins) -> None:
    """The images of each bin, in a line above it."""
    how: dict[str, Any] = style.font(style.SMALL - 0.5, style.FAINT) | {"va": "bottom"}
    how["transform"] = axes.get_xaxis_transform()
    for left, right, n in zip(edges[:-1], edges[1:], bins.counts.tolist(), strict=True):
        text = str(n) if n < 1000 else f"{n / 1000:.{1 if n < 9950 else 0}f}k"
        axes.text((left + right) / 2, 1.04, text, ha="center", **how)
    axes.text(edges[0], 1.04, "n = ", ha="right", **how)
    for edge in edges[1:-1]:
        axes.axvline(edge, color="white", linewidth=0.3)


def _name(axes: Axes, names: list[str], colours: list[str], last: np.ndarray) -> None:
    """Each area's name at the right, with a line to where the area ends."""
    height = axes.bbox.height / axes.figure.dpi * 72  # points
    ends = (last[:-1] + last[1:]) / 2
    places = _spread(ends, style.LINE * style.SMALL / height)
    how: dict[str, Any] = style.font(style.SMALL) | {"va": "center", "transform": axes.transAxes}
    for name, colour, end, place in zip(names, colours, ends, places, strict=True):
        axes.plot(
            (1, 1.03, 1.06), (end, end, place), transform=axes.transAxes, color=colour,
            linewidth=1.2, clip_on=False, solid_capstyle="butt",
        )  # fmt: skip
        axes.text(1.075, place, name, **how)


def _spread(places: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places moved apart to at least `gap`, by the least sum of squares of all moves.

    Neighbours that are too close stand around their mean (pool adjacent violators).
    """
    steps = gap * np.arange(len(places))
    groups: list[tuple[float, int]] = []  # mean and size; the means ascend
    for place in places - steps:
        groups.append((place, 1))
        while len(groups) > 1 and groups[-2][0] > groups[-1][0]:
            (a, m), (b, n) = groups[-2:]
            groups[-2:] = [((m * a + n * b) / (m + n), m + n)]
    return np.concatenate([np.full(n, mean) for mean, n in groups]) + steps
