"""The scatter of two scores: are neurons that are simulated well also replaced well?

    ablation score ≈ slope · correlation + intercept      (least squares over neurons)

The paper's Figure 5. Oikarinen & Weng, ICML 2024, https://arxiv.org/abs/2405.06855.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Real

from jaxle.arrays import Array, check_equal_rows, checks_input
from jaxle.plots import style
from jaxle.plots.style import Axes, Figure
from jaxle.report.bins import as_column
from jaxle.stats import is_constant


class Line(NamedTuple):
    """The least-squares line of one score on another, and Pearson's correlation of both."""

    slope: float
    intercept: float
    pearson: float  # 0 where either is constant


def fit_line(x: Float64[np.ndarray, " neurons"], y: Float64[np.ndarray, " neurons"]) -> Line:
    """Returns the line of `y` on `x`; where `x` is constant, the mean of `y`."""
    a, b = x - x.mean(), y - y.mean()
    if is_constant(a.std(), x.mean()):
        return Line(0.0, float(y.mean()), 0.0)
    slope = float(a @ b / (a @ a))
    intercept = float(y.mean() - slope * x.mean())
    if is_constant(b.std(), y.mean()):
        return Line(slope, intercept, 0.0)
    return Line(slope, intercept, float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1)))


@checks_input
def correlation_ablation(
    correlation: Real[Array, " neurons"],
    ablation: Real[Array, " neurons"],
    *,
    ablation_name: str = "ablation score",
    title: str = "",
    axes: Axes | None = None,
    width: float = style.COLUMN,
) -> Figure:
    """Returns a scatter of neurons, ablation score over correlation score, with a linear fit.

    Args:
      correlation: (neurons,), such as `jaxle.correlation`'s.
      ablation: (neurons,), such as `ablation_optim` or `ablation_excess` of scores.csv, of those
        neurons that were scored.
      ablation_name: what the vertical axis is called.
      title: written above.
      axes: where to draw; None makes a figure.
      width: of a figure of its own, in inches; `COLUMN` 3.25, `PAGE` 6.75.

    Raises:
      ValueError: no neuron, values that are not finite, another number of them.
      ImportError: matplotlib is absent.
    """
    x = as_column(correlation, "correlation", "neurons")
    y = as_column(ablation, "ablation", "neurons")
    check_equal_rows(x, y, ("correlation", "ablation"), "neurons")
    axes = axes if axes is not None else style.new_axes(width, 0.72, title)
    line = fit_line(x, y)
    if y.min() < 0 < y.max():
        axes.axhline(0, color=style.EMPTY, linewidth=0.8, zorder=0)
    axes.scatter(x, y, s=9, color=style.BLUE, alpha=0.55, linewidths=0)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, line.slope * ends + line.intercept, color=style.VERMILLION, linewidth=1.2)
    style.frame(axes)
    style.label(axes, "correlation score", style.drawable(ablation_name, 60))
    style.heading(axes, title)
    left = line.pearson >= 0  # where the fewest neurons are
    how = {"ha": "left" if left else "right", "va": "top", "transform": axes.transAxes}
    for y, text, colour in (
        (0.98, f"r = {style.number(line.pearson, 2)}", style.VERMILLION),
        (0.90, f"{len(x):,} neuron{'s' * (len(x) != 1)}", style.FAINT),
    ):
        axes.text(0.03 if left else 0.97, y, text, **how, **style.font(style.BODY, colour))
    return axes.figure.get_figure(root=True)
