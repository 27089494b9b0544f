"""Draw the README's picture: some neurons of the quickstart's last layer, the test images that activate them most, their explanations.

python -m jaxle.launch --config configs/quickstart.py
python tools/neurons_picture.py runs/quickstart docs/neurons.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import jaxle
from jaxle.scenes import render

SIDE, GAP, TEXT, INK, GREY = 96, 8, 54, (20, 20, 30), (110, 110, 120)


def activations_of(run: Path, tap: str) -> np.ndarray:
    """The trained network's activations, out of the run's cache."""
    facts = {
        path.parent: json.loads(path.read_text())["facts"]
        for path in (run / "cache").glob("probe-*/manifest.json")
    }
    return np.load(
        max(facts, key=lambda folder: facts[folder]["top1_accuracy"]) / f"activations.{tap}.npy"
    )


def picture(run: Path, tap: str, units: list[int], columns: int) -> Image.Image:
    """One band a neuron: its explanation and test correlation above its top test images, best first."""
    table = jaxle.Explanations.from_csv(run / tap / "label" / "explanations.csv")
    rho = table.scores["sim correlation"]
    if not units:  # the best explained, the middle ones, and the worst
        live = np.flatnonzero(table.flags != "dead")
        ranked = live[np.argsort(-rho[live], kind="stable")]
        units = ranked[[0, len(ranked) // 3, 2 * len(ranked) // 3, -1]].tolist()
    test, activations = np.load(run / "split" / "test.npy"), activations_of(run, tap)
    seed = json.loads((run / "config.json").read_text())["seed"]
    font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    large, small = ImageFont.truetype(font, 22), ImageFont.truetype(font, 15)
    band = TEXT + SIDE + 2 * GAP
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), len(units) * band), "white")
    pen = ImageDraw.Draw(sheet)
    for i, unit in enumerate(units):
        top = i * band + GAP
        pen.text((GAP, top), str(table[unit]), INK, large)
        pen.text(
            (GAP, top + 29),
            f"neuron {unit} of {tap}, test correlation {rho[unit]:.2f}",
            GREY,
            small,
        )
        chosen = test[np.argsort(-activations[test, unit], kind="stable")[:columns]]
        for j, image in enumerate(render(chosen, seed).images):
            sheet.paste(
                Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC),
                (GAP + j * (SIDE + GAP), top + TEXT),
            )
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
    picture(arguments.run, arguments.tap, arguments.units, arguments.columns).save(
        arguments.output, optimize=True
    )
