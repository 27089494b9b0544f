"""Draws a contact sheet of the scenes world, one row a class.

    python tools/scenes_sheet.py scenes.png

Each row holds the first scenes of the world whose main object is of the row's class; `--masks` lays
the main object's mask over them.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image, ImageDraw

from jaxle.scenes import CLASS_NAMES, CONCEPTS, masks, render


def sheet(seed: int, columns: int, zoom: int, outlined: bool) -> Image.Image:
    """One row of `columns` scenes for each class, with its name, every pixel `zoom` pixels wide."""
    scenes = render(np.arange(60 * columns), seed)
    margin, gap, side = 118, 6, 64 * zoom
    picture = Image.new(
        "RGB", (margin + columns * (side + gap), len(CLASS_NAMES) * (side + gap) + gap), "white"
    )
    pen = ImageDraw.Draw(picture)
    for row, name in enumerate(CLASS_NAMES):
        chosen = np.flatnonzero(scenes.class_ids == row)[:columns]
        images = scenes.images[chosen]
        if outlined:
            bearing = masks(chosen, seed)[:, CONCEPTS.index(name)]
            images = np.where(bearing[..., None], images, images // 3)
        top = gap + row * (side + gap)
        pen.text((margin - 12, top + side // 2), name, fill="black", anchor="rm", font_size=15)
        for column, image in enumerate(images):
            tile = Image.fromarray(image).resize((side, side), Image.Resampling.LANCZOS)
            picture.paste(tile, (margin + column * (side + gap), top))
    return picture


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="the PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="the world")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--zoom", type=int, default=1, choices=(1, 2, 3, 4))
    parser.add_argument(
        "--masks", action="store_true", help="darken all but the pixels of the row's class"
    )
    arguments = parser.parse_args()
    sheet(arguments.seed, arguments.columns, arguments.zoom, arguments.masks).save(
        arguments.output, optimize=True
    )
