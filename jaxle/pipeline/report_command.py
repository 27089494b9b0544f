"""`jaxle report`: makes the report of a finished run again, beside another run's, or its figures.

    jaxle report RUN [--against OTHER] [--figures]

Nothing is computed anew: tables and arrays are read from the run. `--figures` needs matplotlib
(the extra `plots`) and writes PDF and SVG files to RUN/report/figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from jaxle.pipeline.load import load_run
from jaxle.pipeline.report import FIGURES, write_report, write_timing


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments, and returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        run = load_run(options.run)
        other = None if options.against is None else load_run(options.against)
        folder = write_report(run, other)
        timing = run.workdir / "timing.json"
        if timing.exists():
            write_timing(run.workdir, json.loads(timing.read_text()))
        if options.figures:
            from jaxle.plots import run_figures  # matplotlib, which only figures need

            run_figures(run, folder / FIGURES)
    except (ValueError, OSError, ImportError) as error:
        print(f"jaxle: {error}", file=sys.stderr)
        return 2
    print(f"Report: {folder / 'index.html'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    about = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser("jaxle report", description=about)
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run")
    parser.add_argument(
        "--against", metavar="OTHER", help="another finished run, to stand beside it under Compare"
    )
    parser.add_argument(
        "--figures", action="store_true", help="also write figures for papers, PDF and SVG"
    )
    return parser
