"""The paper's ResNet-50 tables out of its own published files, beside what the paper prints.

    python tools/published_tables.py FOLDER

FOLDER holds the five files of layer4, called `<method>_resnet50_imagenet_layer4.csv` with the
methods net_dissect, milan, clip_dissect, le_label and le_siglip. In the authors' repository
(github.com/Trustworthy-ML-Lab/Linear-Explanations) each is a `resnet50_imagenet_layer4.csv`, in
`results/baselines/NetDissect`, `MILAN` and `CLIP_Dissect`, and in `results/ours/LE_label` and
`LE_siglip`. Printed are

    Table 2   mean test correlation, and the ablation scores of the same files
    Table 4   mean number of concepts of an explanation
    the gap   mean val correlation minus mean test correlation: how optimistic val is
    paired    LE(SigLIP) minus LE(Label), neuron by neuron

and counts that bear on them. The status is 1 where a number is not the printed one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from jaxle import Explanations

FILE = "{}_resnet50_imagenet_layer4.csv"
CORRELATION, OPTIM, NORM = "sim correlation", "sim ablation(optim)", "sim ablation(norm)"
# method → correlation (Table 2), ablation by optim and by norm, as the paper prints them
PRINTED = {
    "net_dissect": (0.1242, 0.0165, 0.0118),
    "milan": (0.0920, 0.0137, 0.0092),
    "clip_dissect": (0.1871, 0.0215, 0.0187),
    "le_label": (0.2924, 0.0433, 0.0334),
    "le_siglip": (0.3772, 0.0727, 0.0602),
}
LENGTHS = {"le_label": 4.37, "le_siglip": 4.68}  # Table 4


def read(folder: Path) -> dict[str, Explanations]:
    """Returns method → its table.

    Raises:
      ValueError: a file is missing, or is no such table.
    """
    missing = [FILE.format(name) for name in PRINTED if not (folder / FILE.format(name)).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}.")
    return {name: Explanations.from_csv(folder / FILE.format(name)) for name in PRINTED}


def rebuilt(tables: dict[str, Explanations]) -> dict[str, tuple[float, ...]]:
    """Returns method → mean correlation and ablation scores, in the order of `PRINTED`."""
    scores = {name: table.scores for name, table in tables.items()}
    return {
        name: tuple(float(own[column].mean()) for column in (CORRELATION, OPTIM, NORM))
        for name, own in scores.items()
    }


def lengths(tables: dict[str, Explanations]) -> dict[str, float]:
    """Returns method → mean number of concepts."""
    return {name: float(tables[name].lengths.mean()) for name in LENGTHS}


def gaps(tables: dict[str, Explanations]) -> dict[str, float]:
    """Returns method → mean val correlation minus mean test correlation."""
    found = {}
    for name in LENGTHS:
        val = [row.val_correlation or 0.0 for row in tables[name]]
        found[name] = float(np.mean(val) - tables[name].scores[CORRELATION].mean())
    return found


def paired(tables: dict[str, Explanations]) -> tuple[float, float, float]:
    """Returns the mean of LE(SigLIP) − LE(Label), its standard error, and the share above 0."""
    label, siglip = (tables[name].scores[CORRELATION] for name in LENGTHS)
    difference = siglip - label
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return float(difference.mean()), float(error), float((difference > 0).mean())


def main(arguments: list[str]) -> int:
    """Prints the tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    try:
        tables = read(parser.parse_args(arguments).folder)
    except ValueError as error:
        parser.error(str(error))
    wrong = 0
    print("Table 2, ResNet-50 layer4      correlation          ablation, optim      ablation, norm")
    for name, values in rebuilt(tables).items():
        cells = []
        for value, printed in zip(values, PRINTED[name], strict=True):
            same = f"{value:.4f}" == f"{printed:.4f}"
            wrong += not same
            cells.append(f"{value:.4f} ({'as printed' if same else f'printed {printed:.4f}'})")
        print(f"{name:<31}{''.join(f'{cell:<21}' for cell in cells)}".rstrip())
    print("\nTable 4, mean length")
    for name, value in lengths(tables).items():
        same = f"{value:.2f}" == f"{LENGTHS[name]:.2f}"
        wrong += not same
        print(f"{name:<31}{value:.2f} ({'as printed' if same else f'printed {LENGTHS[name]}'})")
    print("\nMean val correlation minus mean test correlation")
    for name, value in gaps(tables).items():
        print(f"{name:<31}{value:.4f}")
    difference, error, share = paired(tables)
    print(f"\nLE(SigLIP) − LE(Label): {difference:.4f} ± {error:.4f}; above 0 for {share:.1%}")
    for name in LENGTHS:
        rows = tables[name].rows
        negative = sum(weight < 0 for row in rows for weight in row.weights)
        full = sum(len(row.concepts) == 10 for row in rows)
        twice = [row.unit for row in rows if len(set(row.concepts)) < len(row.concepts)]
        print(
            f"{name}: {len(rows)} neurons; {negative} negative weights; {full} explanations of "
            f"10 concepts; units that name a concept twice: {twice or 'none'}"
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
