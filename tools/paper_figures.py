r"""Draws the figures of docs/figures.md from a run: the paper's Figures 3, 4 and 5.

    python -m jaxle.launch --config configs/quickstart.py --config.workdir=runs/layer3 \
        --config.target.taps=layer3 --config.evaluation.ablation=best
    python tools/paper_figures.py runs/layer3 docs/figures

Of the best neuron of a layer: its area chart and pictures of its bins, on test images. Of all its
neurons: ablation score over correlation score. The same run gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jaxle
from jaxle.plots.run import EXCESS, Pictures, Run, ablated, best_neurons, shown


def draw(run: Run, names: tuple[str, str, str], unit: int | None, folder: Path) -> None:
    """Writes area_chart.svg, images_by_bin.svg and correlation_ablation.svg.

    Args:
      run: of `jaxle.load_run`.
      names: tap, method, simulator.
      unit: which neuron; None takes the best.
      folder: where to write; it is made where it does not exist.
    """
    tap, method, simulator = names
    scores = {key: (rho, excess) for key, rho, excess in ablated(run)}
    if names not in scores:
        raise SystemExit(f"the run ablated no neuron of {tap}, {method} by {simulator}.")
    unit = int(best_neurons(run, tap, method)[0]) if unit is None else unit
    own = shown(run, tap, method, unit)
    pictures = Pictures(run, own.numbers)
    figures = {
        "area_chart": jaxle.plots.area_chart(
            own.activations, own.values, own.concepts, title=own.title
        ),
        "images_by_bin": jaxle.plots.image_grid_by_bin(
            pictures, own.activations, own.simulated, n_images=2, title=own.title
        ),
        "correlation_ablation": jaxle.plots.correlation_ablation(
            *scores[names], ablation_name=EXCESS, title=f"{tap}, {method} simulated by {simulator}"
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        jaxle.plots.save_figure(figure, folder / f"{name}.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tap", default="layer3")
    parser.add_argument("--method", default="label")
    parser.add_argument("--simulator", default="siglip")
    parser.add_argument("--unit", type=int)
    arguments = parser.parse_args()
    names = (arguments.tap, arguments.method, arguments.simulator)
    draw(jaxle.load_run(arguments.run), names, arguments.unit, arguments.output)
