"""What regress.py runs: every claim of speed or memory, at a size of seconds.

Docstrings of the benchmarks say what each figure is. Over three to five runs on two cores that ten
to twenty other processes used, too, ratios in CPU seconds differed by up to 19 % between least and
most, most of them by less than 10 %, memory by up to 9 %, counts and errors by nothing or one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

CPU, MEMORY, SAME = 0.25, 0.15, 0.03  # tolerances


class Figure(NamedTuple):
    """One line that a benchmark prints (`ratios.ratio`)."""

    name: str
    better: Literal["larger", "smaller"]
    tolerance: float  # worse by more than this share is a regression


class Case(NamedTuple):
    """One benchmark at a size of seconds; `{scratch}` in its command is an empty folder."""

    name: str
    command: str
    figures: tuple[Figure, ...]
    needs: tuple[str, ...] = ()  # packages that jaxle itself does not need


def larger(name: str, tolerance: float) -> Figure:
    return Figure(name, "larger", tolerance)


def smaller(name: str, tolerance: float) -> Figure:
    return Figure(name, "smaller", tolerance)


CASES = (
    Case(
        "solver",
        "benchmarks/solver.py similarity 3500 1000 512 --fast",
        (
            larger("libraries / jaxle, CPU seconds", CPU),
            smaller("preconditioned / the paper's search, CPU seconds", CPU),
            smaller("peak memory above inputs, MB", MEMORY),
        ),
        ("sklearn",),
    ),
    Case(
        "counting",
        "benchmarks/solver.py one_hot 7000 1000 512 --fast",
        (
            larger("counting libraries without their fit / jaxle, CPU seconds", CPU),
            smaller("preconditioned / the paper's search, CPU seconds", CPU),
        ),
        ("sklearn",),
    ),
    Case(
        "wide",
        "benchmarks/wide.py --neurons 16384 --concepts 1000",
        (smaller("peak memory above inputs and moments, MB", MEMORY),),
    ),
    Case(
        "accumulation",
        "benchmarks/accumulation.py --small",
        (larger("16,384 tiles, one accumulator / in parts, largest error", SAME),),
    ),
    Case(
        "concepts",
        "benchmarks/concepts.py --images 8000 --concepts 2000 --numbers 256",
        (
            larger("top-k of all / screening by groups, CPU seconds", CPU),
            larger("the grid's evaluations / Newton's passes", SAME),
            smaller("peak memory above embeddings, MB", MEMORY),
        ),
    ),
    Case(
        "clip_dissect",
        "benchmarks/clip_dissect.py --neurons 512 --concepts 4000 --images 9000 --loop-neurons 128",
        (
            larger("torch / jaxle warm, CPU seconds", CPU),
            smaller("peak memory above inputs, MB", MEMORY),
        ),
        ("torch",),
    ),
    Case(
        "invert",
        "benchmarks/invert.py --neurons 64 --concepts 100 --images 4000",
        (
            larger("NumPy's loop / jaxle warm, CPU seconds", CPU),
            smaller("peak memory above inputs, MB", MEMORY),
        ),
    ),
    Case(
        "ablation",
        "benchmarks/ablation.py --cpu --shapes resnet20_cifar10",
        (
            larger("resnet20_cifar10, layer2, one neuron at a time / batched", CPU),
            larger("resnet20_cifar10, layer3, one neuron at a time / batched", CPU),
        ),
    ),
    Case(
        "evaluation",
        "benchmarks/evaluation.py --cost --images 2000 --neurons 256 --draws 200",
        tuple(
            larger(f"draws by gathering rows / {name}, CPU seconds", CPU)
            for name in ("bootstrap", "paired", "permutation null", "swap null", "metrics")
        ),
    ),
    Case(
        "units",
        "benchmarks/units.py --units 40000 --concepts 0",
        (
            larger("whole / a tile at a time, CPU seconds", CPU),
            smaller("peak memory above arrays, a tile at a time, MB", MEMORY),
        ),
    ),
    Case(
        "pass",
        "benchmarks/probe.py --images 64 --rounds 3",
        (
            larger("decode + network / the pass, CPU seconds", CPU),
            larger("torch / the pass, CPU seconds", CPU),
        ),
        ("torch", "transformers"),
    ),
    Case(
        "pass_memory",
        "benchmarks/probe.py --memory --counts 1000 8000",
        (smaller("memory of a pass over 8000 images, MB", MEMORY),),
    ),
    Case(
        "models",
        "benchmarks/models.py --batch 2 --rounds 3",
        (
            larger("ResNet-50 at 224, torch / jaxle, CPU seconds", CPU),
            larger("SigLIP-B/16-224, images, torch / jaxle, CPU seconds", CPU),
        ),
        ("torch", "transformers"),
    ),
    Case(
        "report",
        "benchmarks/report_size.py {scratch} --neurons 500 --images 1000 --no-pages",
        (
            smaller("the report / jaxle's help, CPU seconds", CPU),
            smaller("peak memory above that of the help, MB", MEMORY),
            smaller("kB of the report a neuron", SAME),
        ),
    ),
    Case("compilations", "benchmarks/compilations.py", (smaller("programs", SAME),)),
)

# why the other files here are not measured
LEFT_OUT = {
    "ablation_zero.py": "quality",
    "controls.py": "quality",
    "counterfactual.py": "quality",
    "formulas.py": "quality",
    "labelling.py": "quality",
    "noise.py": "quality",
    "prompts.py": "quality",
    "recovery.py": "quality",
    "variants.py": "quality",
    "scaling.py": "a model of costs whose stages solver.py and evaluation.py measure",
    "forward.py": "part of others",
    "problems.py": "part of others",
    "ratios.py": "part of others",
    "cases.py": "the table of regress.py",
    "rivals.py": "part of others",
    "regress.py": "what runs all others",
}
