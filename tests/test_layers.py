"""The floors of the house: a file imports only from lower floors, and no room has a cycle.

docs/architecture.md is made from what stands here and from the imports themselves:

    python tests/test_layers.py
"""

import ast
import graphlib
import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jaxle"
PAGE = ROOT / "docs" / "architecture.md"

# lowest first; a room is a folder of jaxle/, or a file
FLOORS = [
    [
        "arrays",
        "units",
        "stats",
        "images",
        "mesh",
        "artifacts",
        "options",
        "references",
        "columns",
        "compilation",
        "hosts",
        "multihost",
        "stopping",
    ],
    ["solve", "scenes"],
    ["models", "data", "concepts", "explanations"],
    ["explainers", "evaluation", "intervention"],
    ["report", "plots"],
    ["pipeline"],
    ["launch"],
]
ONE_FILE = {"launch"}  # rooms of one file above the ground floor
# on one floor, who may import whom: figures and report show the same numbers
SIDEWAYS: set[tuple[str, str]] = {("plots", "report")}
MOST_LINES, MOST_PARAMETERS = 250, 6  # of a module of pipeline/, of a function there

WALKS = """\
## Three walks

From `pipeline/run.py` every formula is at most three jumps away.

**One batch of images** becomes activations.
`run` → `pipeline.probe.probe` → `pipeline.image_pass.read_images` → `models.model.Model.probe`,
which normalises the images, runs the network and pools each tap.

**One neuron's explanation.**
`run` → `pipeline.explain.explain_all`, which builds a `Problem` of moments (`pipeline.fit`) →
`explainers.linear.greedy` → `explainers.search.greedy`, the paper's Algorithm 1 on second moments.
The elastic net that orders its candidates is the jump beside it: `explainers.rank.candidates`.

**One score.**
`run` → `pipeline.score.score_one`, which collects the `Evidence` → `evaluation.METRICS`, a row a
metric → `evaluation.correlation.correlation`, Pearson's ρ of simulated and real activations.
"""


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix("__init__").removesuffix(".")


def modules() -> dict[str, Path]:
    """Name below jaxle → file, of every module but the package itself."""
    return {module_name(p): p for p in sorted(PACKAGE.rglob("*.py")) if p.parent != PACKAGE
            or p.name != "__init__.py"}  # fmt: skip


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return level
    raise AssertionError(f"jaxle.{module} is in no room of the floors")


def imports(path: Path):
    """(module of jaxle, line) of every import in the file, function bodies included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] != "jaxle":
                continue
            parts = name.split(".")[1:]
            while parts and not _exists(parts):
                parts.pop()  # a name inside the module
            assert parts, f"{path}:{node.lineno}: imports the package itself"
            yield ".".join(parts), node.lineno


def _exists(parts: list[str]) -> bool:
    place = PACKAGE.joinpath(*parts)
    return place.with_suffix(".py").exists() or place.is_dir()


def may_import(importer: str, imported: str) -> bool:
    if floor(imported) != floor(importer):
        return floor(imported) < floor(importer)
    here, there = room(importer), room(imported)
    return here == there or floor(importer) == 0 or (here, there) in SIDEWAYS


def graph(rooms) -> dict[str, set[str]]:
    """Module → modules that it imports, of some rooms; a room's __init__ bears the room's name."""
    return {
        name: {other for other, _ in imports(path) if room(other) in rooms and other != name}
        for name, path in modules().items()
        if room(name) in rooms
    }


def test_there_are_at_most_seven_floors_and_every_module_is_on_one():
    assert len(FLOORS) <= 7
    rooms = {room(name) for name in modules()}
    assert rooms == {name for level in FLOORS for name in level}
    single = {name for name in rooms if (PACKAGE / f"{name}.py").exists() and floor(name) > 0}
    assert single == ONE_FILE


def test_every_import_goes_down():
    wrong = [
        f"{importer}:{line} imports {imported}"
        for importer, path in modules().items()
        for imported, line in imports(path)
        if not may_import(importer, imported)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_room_has_a_cycle():
    for rooms in ([*FLOORS[0]], *([name] for level in FLOORS[1:] for name in level)):
        graphlib.TopologicalSorter(graph(set(rooms))).prepare()  # CycleError names the cycle


def test_the_rule_can_fail():
    assert may_import("explainers.linear", "solve.moments")
    assert not may_import("solve.moments", "explainers.linear")
    assert not may_import("models.zoo", "data.loader")
    assert not may_import("evaluation.scores", "explainers.linear")
    assert not may_import("report.listing", "pipeline.tables")


def test_a_module_of_the_pipeline_is_short_and_its_functions_take_few_arguments():
    for name, path in modules().items():
        if room(name) != "pipeline":
            continue
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= MOST_LINES, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.Lambda)):
                own = node.args
                given = [*own.posonlyargs, *own.args, *own.kwonlyargs]
                given = [a for a in given if a.arg not in ("self", "cls")]
                assert len(given) <= MOST_PARAMETERS, (name, node.lineno)


def test_the_walks_name_what_exists():
    for name in ("pipeline.probe.probe", "pipeline.image_pass.read_images",
                 "models.model.Model", "pipeline.explain.explain_all", "explainers.linear.greedy",
                 "explainers.search.greedy", "explainers.rank.candidates",
                 "pipeline.score.score_one", "evaluation.correlation.correlation"):  # fmt: skip
        module, _, attribute = name.rpartition(".")
        assert (
            name in WALKS
            and f"def {attribute}"
            in (source := (PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
            or f"class {attribute}" in source
        ), name


def test_core_needs_neither_tensorflow_nor_torch():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            heavy = {"torch", "tensorflow", "big_vision"}
            assert not heavy & {name.split(".")[0] for name in names}, path


def page() -> str:
    """docs/architecture.md: the floors, what each file is, in an order in which it can be read."""
    width = 66
    lines = ["# Architecture", "",
             "A file imports only from lower floors, or from its own room, and no room has a cycle",
             "(`tests/test_layers.py`, which also writes this page). Records flow forward: a step",
             "of `pipeline/` is a function of the records it is given.", "", "```text"]  # fmt: skip
    arrow = " " * (width // 2 + 3) + "│"
    for level in range(len(FLOORS) - 1, -1, -1):
        rows = _wrap("   ".join(FLOORS[level]), width - 4)
        labels = [f"F{level} ", *["   "] * len(rows)]
        lines.append("   ┌" + "─" * width + "┐")
        lines += [
            f"{label}│  {row.ljust(width - 2)}│" for label, row in zip(labels, rows, strict=False)
        ]
        lines.append("   └" + "─" * width + "┘")
        if level:
            lines.append(arrow + (" imports" if level == len(FLOORS) - 1 else ""))
    lines += ["```", "", WALKS.rstrip(), "", "## Rooms", ""]
    lines += ["Files stand in an order in which they can be read: what one imports comes before."]
    for level in range(len(FLOORS) - 1, -1, -1):
        for name in FLOORS[level]:
            lines += ["", f"### {name}", "", *_room_lines(name)]
    return "\n".join(lines) + "\n"


def _room_lines(name: str) -> list[str]:
    if (PACKAGE / f"{name}.py").exists():
        return [_first_sentence(PACKAGE / f"{name}.py")]
    order = graphlib.TopologicalSorter(
        {module: sorted(others) for module, others in sorted(graph({name}).items())}
    ).static_order()
    found = [
        _first_sentence(PACKAGE / name / "__init__.py"),
        "",
        "| file | what it is |",
        "|---|---|",
    ]
    for module in order:
        if module != name:
            path = modules()[module]
            found.append(f"| `{module.partition('.')[2]}.py` | {_first_sentence(path)} |")
    return found


def _first_sentence(path: Path) -> str:
    text = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def _wrap(text: str, width: int) -> list[str]:
    rows, row = [], ""
    for word in text.split("   "):
        if row and len(row) + 3 + len(word) > width:
            rows.append(row)
            row = word
        else:
            row = f"{row}   {word}" if row else word
    return [*rows, row]


def test_the_page_is_what_the_imports_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_layers.py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
