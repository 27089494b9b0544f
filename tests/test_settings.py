import importlib
from pathlib import Path

import pytest

from jaxle import settings

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def load(name: str) -> dict:
    return importlib.import_module(f"configs.{name}").get_config().to_dict()


def changed(**fields) -> dict:
    config = load("common")
    for name, value in fields.items():
        section, _, key = name.partition("__")
        if key:
            config[section][key] = value
        else:
            config[section] = value
    return config


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")
)
def test_every_config_passes_and_comes_out_plain(name):
    plain = settings.check(load(name))
    assert isinstance(plain["target"]["taps"], list) and plain["methods"]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"fit__lamb": 0.1}, "unknown config field 'fit.lamb'; did you mean 'fit.lam'?"),
        (
            {"fit": {"lam": 0.05, "l1_ratio": 0.99, "tol": 1e-6}},
            "the config lacks the field 'fit.min_top5'",
        ),
        ({"seed": "x"}, "config field 'seed' must be an int, got 'x'"),
        ({"seed": True}, "config field 'seed' must be an int, got True"),
        ({"data__batch_size": 0}, "config field 'data.batch_size' must be at least 1, got 0"),
        ({"target__taps": ()}, "names no tap"),
        ({"target__taps": ("layer1", "layer1")}, "names a tap twice"),
        ({"target__pool": "mean"}, "must be one of avg, max, first, none, got 'mean'"),
        ({"methods": {}}, "config section 'methods' is empty"),
        (
            {"methods": {"label": {"concepts": "lable", "search": "greedy"}}},
            "'methods.label.concepts' must be one of label, siglip, nonsense, got 'lable'",
        ),
        (
            {"methods": {"label": {"concepts": "label", "search": "gredy"}}},
            "'methods.label.search' must be one of greedy, top_k, preconditioned, got 'gredy'",
        ),
        (
            {"methods": {"label": {"concepts": "label"}}},
            "methods.label must hold concepts, search, got concepts.",
        ),
        ({"methods": {"../x": {"concepts": "label", "search": "greedy"}}}, "cannot name a folder"),
        (
            {"methods": {"label": "label"}},
            "'methods.label.concepts' must be one of label, siglip, nonsense, got None",
        ),
        (
            {"methods": {"s": {"concepts": "siglip", "search": "greedy"}}},
            "methods.s must hold concepts, search, model, weights, dtype, got",
        ),
        (
            {"simulators": {"labels": "label"}},
            "'simulators.labels' must be 'labels' or hold model, weights, dtype, got 'label'",
        ),
        (
            {"simulators": {"s": {"model": "x", "weights": None, "dtype": "float32"}}},
            "'simulators.s.weights' must be a str, got None",
        ),
        (
            {"concepts__hierarchy": "wordnt"},
            "'concepts.hierarchy' must be one of , wordnet, coarse, got 'wordnt'",
        ),
        (
            {"concepts__hierarchy": "coarse", "concepts__superclasses": {"a": ("b",)}},
            "are both set: expected one of them",
        ),
        (
            {"concepts__calibration": "none"},
            "'concepts.calibration' must be one of auto, known, trained, got 'none'",
        ),
        ({"search__mean_length": -1.0}, "'search.mean_length' must be at least 0, got -1.0"),
        ({"fit__lam": 0}, "lam must be a positive number, got 0"),
        ({"fit__lam": float("nan")}, "lam must be a positive number, got nan"),
        ({"fit__l1_ratio": 1.5}, "l1_ratio must be a number in"),
        ({"search__max_concepts": 0}, "max_concepts must be a whole number of at least 1, got 0"),
    ],
)
def test_one_sentence_for_each_mistake(fields, words):
    with pytest.raises(ValueError) as error:
        settings.check(changed(**fields))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_taps_may_be_written_with_commas():
    assert settings.check(changed(target__taps=("layer1, layer2",)))["target"]["taps"] == [
        "layer1",
        "layer2",
    ]
