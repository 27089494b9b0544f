"""The floors of the house: a file imports only from lower floors, or, inside its own folder, from files listed before it."""

import ast
from pathlib import Path

import jaxle

PACKAGE = Path(jaxle.__file__).parent

# Lowest first. A folder's files are listed in the order in which they may import one another; a folder listed alone is flat inside.
FLOORS = [
    ["arrays", "stats"],
    ["solve", "images", "scenes", "artifacts", "mesh"],
    ["models", "data", "concepts"],
    ["explanations", "explainers"],
    ["evaluation"],
    ["report", "plots"],
    ["settings", "probing"],
    ["run"],
    ["matrices"],
    ["explaining"],
    ["evaluating"],
    ["ablating"],
    ["scoring"],
    ["stages"],
    ["launch", "scenes.train", "scenes.siglip_texts", "scenes.train_siglip"],
]
INSIDE = {
    "solve": [
        "moments",
        "folds",
        "block",
        "elastic_net",
        "least_squares",
        "ridge",
        "forward",
        "exchange",
        "logistic",
        "lasso",
    ],
    "scenes": [
        *(
            "vocabulary",
            "draws",
            "shapes",
            "patterns",
            "layout",
            "places",
            "world",
            "masks",
            "captions",
            "planted",
        ),
        *("siglip_texts", "train_siglip"),
    ],
    "models": [
        *(
            "class_names",
            "weights",
            "download",
            "taps",
            "suffix",
            "cifar_resnet",
            "resnet",
            "vgg",
            "vit",
            "siglip",
            "clip",
        ),
        *("tokenizers", "placement", "model", "two_tower", "zoo", "generated"),
    ],
    "data": [
        "names",
        "splits",
        "arrays",
        "folder",
        "scenes",
        "tfds",
        "sources",
        "loader",
        "generated",
    ],
    "concepts": ["hierarchy", "wordnet", "labels", "sets", "contrastive", "calibration"],
    "explainers": ["screen", "measure", "rank", "search", "table", "preconditioned", "linear"],
    "evaluation": [
        *(
            "simulation",
            "correlation",
            "intervals",
            "discoveries",
            "resampling",
            "nulls",
            "metrics",
            "self_test",
            "contributions",
        ),
        *(
            "agreement",
            "random_network",
            "temperature",
            "linearity",
            "replacement",
            "affine",
            "ablation",
            "impact",
        ),
    ],
    "report": ["progress", "tables", "listing"],
}
SIDEWAYS = {
    ("explainers", "explanations"),
    ("stats", "arrays"),
}  # the table is listed before explainers


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def floor(module: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if module in rooms and "." in module:
            return level
    for level, rooms in enumerate(FLOORS):
        if module.split(".")[0] in rooms:
            return level
    raise AssertionError(f"jaxle.{module} is in no room of DESIGN's floors")


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
            while parts and not (
                (PACKAGE.joinpath(*parts)).with_suffix(".py").exists()
                or PACKAGE.joinpath(*parts).is_dir()
            ):
                parts.pop()  # a name inside the module
            assert parts, f"{path}:{node.lineno}: imports the package itself"
            yield ".".join(parts), node.lineno


def may_import(importer: str, imported: str) -> bool:
    if floor(imported) != floor(importer):
        return floor(imported) < floor(importer)
    here, there = importer.split(".")[0], imported.split(".")[0]
    if here != there:
        return (here, there) in SIDEWAYS
    order = INSIDE.get(here, [])
    mine, other = importer.partition(".")[2], imported.partition(".")[2]
    if (
        not mine or not other
    ):  # a folder's __init__ gathers its own files; a file may not import its own __init__
        return not mine
    return mine in order and other in order and order.index(other) < order.index(mine)


def test_every_import_goes_down():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        importer = module_name(path)
        if importer == "" or path == PACKAGE / "__init__.py":
            continue
        wrong += [
            f"{importer}:{line} imports {imported}"
            for imported, line in imports(path)
            if not may_import(importer, imported)
        ]
    assert not wrong, "\n".join(wrong)


def test_the_rule_can_fail():
    assert may_import("explainers.linear", "solve.moments") and not may_import(
        "solve.moments", "explainers.linear"
    )
    assert may_import("explainers.linear", "explainers.screen") and not may_import(
        "explainers.screen", "explainers.linear"
    )
    assert not may_import("models.zoo", "data.loader") and not may_import(
        "explanations", "explainers.rank"
    )
    assert may_import("scenes.train", "models.zoo") and not may_import("scenes.world", "models.zoo")


def test_core_needs_neither_tensorflow_nor_torch():
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {"torch", "tensorflow", "big_vision"} & {n.split(".")[0] for n in names}, (
                f"{path} imports {names} at its top"
            )
