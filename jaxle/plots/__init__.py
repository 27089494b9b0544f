"""Figures for papers, of plain arrays or of a finished run: vector files, and LaTeX for tables."""

from jaxle.plots.area import area_chart
from jaxle.plots.grid import image_grid_by_bin, image_grid_by_rank
from jaxle.plots.latex import score_table
from jaxle.plots.run import run_figures
from jaxle.plots.scatter import correlation_ablation
from jaxle.plots.style import save_figure

__all__ = [
    "area_chart",
    "correlation_ablation",
    "image_grid_by_bin",
    "image_grid_by_rank",
    "run_figures",
    "save_figure",
    "score_table",
]
