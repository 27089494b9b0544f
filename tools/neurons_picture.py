"""Draws the README's picture: neurons of the quickstart's last layer and their explanations.

    python -m jaxle.launch --config configs/quickstart.py
    python tools/neurons_picture.py runs/quickstart docs/neurons.png

Beside each neuron stand the test images that activate it most.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import jaxle

SIDE, GAP, TEXT, INK, GREY = 96, 8, 54, (20, 20, 30), (110, 110, 120)


def picture(workdir: Path, tap: str, units: list[int], columns: int) -> Image.Image:
    """Returns one band a neuron: its explanation and correlation above its top test images."""
    run = jaxle.load_run(workdir)
    table, activations = run.explanations(tap, "label"), run.activations(tap)
    rho = table.scores["sim correlation"]
    if not units:  # the best explained, the middle ones, and the worst
        live = np.flatnonzero(table.flags != "dead")
        ranked = live[np.argsort(-rho[live], kind="stable")]
        units = ranked[[0, len(ranked) // 3, 2 * len(ranked) // 3, -1]].tolist()
    font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    large, small = ImageFont.truetype(font, 22), ImageFont.truetype(font, 15)
    band = TEXT + SIDE + 2 * GAP
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), len(units) * band), "white")
    pen = ImageDraw.Draw(sheet)
    for i, unit in enumerate(units):
        top = i * band + GAP
        pen.text((GAP, top), str(table[unit]), INK, large)
        caption = f"neuron {unit} of {tap}, test correlation {rho[unit]:.2f}"
        pen.text((GAP, top + 29), caption, GREY, small)
        order = np.argsort(-activations[run.split.test, unit], kind="stable")
        for j, number in enumerate(run.split.test[order[:columns]].tolist()):
            image = Image.fromarray(run.image(number))
            place = (GAP + j * (SIDE + GAP), top + TEXT)
            sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), place)
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tap", default="layer3")
    parser.add_argument("--units", type=int, nargs="*", default=[])
    parser.add_argument("--columns", type=int, default=10)
    arguments = parser.parse_args()
    sheet = picture(arguments.run, arguments.tap, arguments.units, arguments.columns)
    sheet.save(arguments.output, optimize=True)
