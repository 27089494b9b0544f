"""A person's check of some neurons: `jaxle label-sheet` writes a sheet, and reads it back.

    jaxle label-sheet RUN --tap T --neurons 3,17 [--method M] [--images 100] [--out sheet.html]
    jaxle label-sheet RUN --read answers.csv

The first command writes the sheet, and beside the run, in RUN/label_sheets/, which images it drew
and how likely each was. The second prints each neuron's correlation by the person's answers, with
its interval, beside the run's own, and writes the same as a CSV next to the answers. What is drawn
and estimated stands in `jaxle.evaluation.labelling`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxle import artifacts
from jaxle.evaluation.labelling import LEAST_ANSWERS, Estimate, draw_sample, estimate
from jaxle.options import suggest
from jaxle.pipeline.drawn import (
    Drawn,
    chosen,
    read_drawn,
    sample_of,
    what_is_known,
    write_drawn,
)
from jaxle.pipeline.load import FinishedRun, load_run
from jaxle.report.label_sheet import open_line, read_answers, sheet_of, write_sheet


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments, and returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        run = load_run(options.run)
        if options.read:
            _read(run, Path(options.read))
        else:
            _write(run, options)
    except (ValueError, OSError) as error:
        print(f"jaxle: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser("jaxle label-sheet", description=about)
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--tap", help="the layer; may be left out where the run has one")
    parser.add_argument("--neurons", type=_units, help="unit numbers, such as 3,17")
    parser.add_argument("--method", help="whose explanations; may be left out where there is one")
    parser.add_argument("--guide", help="the method whose probabilities choose the images "
                        "(default: the same)")  # fmt: skip
    parser.add_argument("--images", type=int, default=100, help="pictures on the sheet")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--out", default="sheet.html", help="the file to write")
    parser.add_argument("--read", metavar="CSV", help="answers to a sheet of this run")
    return parser


def _units(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of unit numbers such as 3,17")
    return tuple(dict.fromkeys(int(part) for part in parts))


# --- write ----------------------------------------------------------------------------------------


def _write(run: FinishedRun, options: argparse.Namespace) -> None:
    tap = _choice(options.tap, run.taps, "tap")
    method = _choice(options.method, run.methods, "method")
    guide = _choice(options.guide or method, run.methods, "guide")
    if not options.neurons:
        raise ValueError("no neurons given: expected --neurons, such as --neurons 3,17.")
    if options.images < LEAST_ANSWERS:
        raise ValueError(f"--images must be at least {LEAST_ANSWERS}, got {options.images}.")
    explanations = chosen(run, tap, method, options.neurons)
    words = tuple(sorted({name for row in explanations for name in row.concepts}))
    known = what_is_known(run, tap, guide, explanations, words)
    sample = draw_sample(
        known.activations, known.probs, known.weights, options.images, options.seed
    )
    numbers = known.index[sample.images].tolist()
    drawn = Drawn(
        run.index["run"], tap, method, guide, options.neurons, words,
        tuple(run.names[i] for i in numbers), tuple(sample.probability.tolist()),
    )  # fmt: skip
    sheet = drawn.sheet
    write_drawn(run, drawn)
    pictures = [np.asarray(run.image(i)) for i in numbers]
    artifacts.write_text(options.out, write_sheet(sheet, pictures))
    print(
        f"{options.out}: {len(numbers)} of {len(known.index)} test images and {len(words)} words, "
        f"for neuron {', '.join(map(str, options.neurons))} of {tap} by {method}.\n"
        "Open it in a browser, answer, save the answers, then:\n"
        f"    jaxle label-sheet {run.workdir} --read answers-{sheet.name}.csv"
    )


# --- read -----------------------------------------------------------------------------------------


def _read(run: FinishedRun, path: Path) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the answers in {path}: {error}.") from None
    drawn = read_drawn(run, sheet_of(text))
    answers = read_answers(text, drawn.sheet)
    explanations = chosen(run, drawn.tap, drawn.method, drawn.neurons)
    known = what_is_known(run, drawn.tap, drawn.guide, explanations, drawn.words)
    sample = sample_of(run, drawn, known)
    found = estimate(sample, answers.values, known.activations, known.probs, known.weights)
    table = _table(run, drawn, found)
    out = path.with_name(f"{path.stem}_scores.csv")
    artifacts.write_text(out, table.to_csv(index=False, lineterminator="\n"))
    print(f"{drawn.tap} · {drawn.method} · {len(drawn.images)} pictures, guide {drawn.guide}")
    for row, explanation in zip(table.to_dict("records"), explanations, strict=True):
        print(_line(row, str(explanation)))
    if left := open_line(answers):
        print(f"Note: {left}")
    print(f"{out}: the same as a table.")


def _table(run: FinishedRun, drawn: Drawn, found: Estimate) -> pd.DataFrame:
    """A row a neuron: by the person, and by the run's simulators."""
    table = pd.DataFrame({
        "tap": drawn.tap,
        "unit": drawn.neurons,
        "method": drawn.method,
        "correlation": found.correlation,
        "correlation_low": found.low,
        "correlation_high": found.high,
        "effective_n": np.round(found.effective_n, 1),
        "answered": found.answered,
        "flag": found.flag,
    })  # fmt: skip
    scores = run.scores
    for simulator in run.config.simulators:
        own = scores[
            (scores["tap"] == drawn.tap)
            & (scores["method"] == drawn.method)
            & (scores["simulator"] == simulator)
        ].set_index("unit")["correlation"]
        if len(own):
            table[f"run_{simulator}"] = [own.get(unit) for unit in drawn.neurons]
    return table


def _line(row: dict[str, Any], explanation: str) -> str:
    """What is printed of a neuron."""
    if row["flag"] == "too_few_answers":
        person = f"only {row['answered']} answers; at least {LEAST_ANSWERS} are needed"
    elif row["flag"] == "constant":
        person = f"the same answers in all {row['answered']} pictures, ρ unknown"
    else:
        few = ", few positives" if row["flag"] else ""
        person = (
            f"ρ {row['correlation']:.3f} ({row['correlation_low']:.3f} to "
            f"{row['correlation_high']:.3f}) by {row['answered']} answered pictures, "
            f"worth {row['effective_n']:.0f} drawn uniformly{few}"
        )
    own = [f"{name[4:]} {row[name]:.3f}" for name in row if name.startswith("run_")]
    return f"  neuron {row['unit']}  {explanation}\n      {person}; the run: {', '.join(own)}"


def _choice(given: str | None, valid: Sequence[str], what: str) -> str:
    """The name given, or the only one there is."""
    if given is None and len(valid) == 1:
        return valid[0]
    if given is None:
        raise ValueError(f"no {what} given: expected --{what}, one of {', '.join(valid)}.")
    if given not in valid:
        raise ValueError(f"the run has no {what} {given!r}: {suggest(given, valid)}.")
    return given
