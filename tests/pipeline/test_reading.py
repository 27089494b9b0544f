"""From a config file to settings: what passes, and one sentence for each mistake."""

import dataclasses
import importlib

import pytest

from jaxle.explainers.linear import Greedy, TopK
from jaxle.explainers.preconditioned import Preconditioned
from jaxle.options import describe
from jaxle.pipeline import defaults
from jaxle.pipeline.config import Config, Encoder
from jaxle.pipeline.reading import SECTIONS, read_config
from tests.runs import ROOT, changed

CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
GREEDY = {"concepts": "label", "explainer": "greedy"}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_passes(name):
    config = read_config(importlib.import_module(f"configs.{name}").get_config().to_dict())
    assert isinstance(config, Config) and config.target.taps and config.methods
    for method in config.methods.values():
        assert isinstance(method.options, (Greedy, TopK, Preconditioned))
        assert (method.encoder is None) == (method.concepts == "label")


def test_the_template_holds_every_field_with_its_default():
    given = defaults.get_config().to_dict()
    assert set(given) == {field.name for field in dataclasses.fields(Config)}
    for section, cls in SECTIONS.items():
        assert given[section] == {name: of.default for name, of in describe(cls).items()}
    config = read_config(given)
    for section, cls in SECTIONS.items():
        assert getattr(config, section) == cls()
    assert config.methods["label"].options == Greedy() and config.simulators == {"labels": "labels"}


def test_what_is_left_out_has_its_default():
    config = read_config({"methods": {"a": {}}, "simulators": {"labels": "labels"}})
    assert config == dataclasses.replace(
        read_config(changed({})), methods={"a": config.methods["a"]}
    )
    assert config.methods["a"].options == Greedy() and config.methods["a"].concepts == "label"


def test_a_methods_own_option_comes_before_the_shared_one():
    config = read_config(
        changed(
            {
                "fit.lam": 0.5,
                "search.min_gain": 0.25,
                "methods.label.min_gain": 0.125,
                "methods.other": defaults.label("preconditioned", exchanges=1),
                "methods.top": defaults.label("top_k"),
            }
        )
    )
    assert config.methods["label"].options == Greedy(lam=0.5, min_gain=0.125)
    assert config.methods["other"].options == Preconditioned(min_gain=0.25, exchanges=1)
    assert config.methods["top"].options == TopK(lam=0.5)


def test_encoders_are_read_where_they_stand():
    config = read_config(
        changed(
            {
                "methods.s": defaults.siglip("a", "w.npz", dtype="bfloat16"),
                "methods.n": defaults.nonsense("a"),
                "methods.again": defaults.like(defaults.siglip("a"), "top_k"),
                "simulators.b": defaults.tower("b"),
                "simulators.own": "package.module:name",
            }
        )
    )
    assert config.methods["s"].encoder == Encoder("a", "w.npz", "bfloat16")
    assert config.methods["n"].encoder == config.methods["again"].encoder == Encoder("a")
    assert config.methods["again"].concepts == "siglip"
    assert config.simulators == {
        "labels": "labels",
        "b": Encoder("b"),
        "own": "package.module:name",
    }


@pytest.mark.parametrize(
    "fields, words",
    [
        (
            {"fit": {"lamb": 0.1}},
            "unknown config field fit.lamb: did you mean 'lam'? (valid: lam, l1_ratio, tol, min_",
        ),
        ({"fitt": {}}, "unknown config field 'fitt': did you mean 'fit'?"),
        ({"fit": 3}, "config section 'fit' must hold fields, got 3"),
        ({"seed": "x"}, "config field seed must be a whole number of at least 0, got 'x'"),
        ({"seed": True}, "config field seed must be a whole number of at least 0, got True"),
        ({"seed": -1}, "config field seed must be a whole number of at least 0, got -1"),
        (
            {"data.batch_size": 0},
            "config field data.batch_size must be a whole number of at least 1, got 0",
        ),
        ({"target.taps": ()}, "names no tap"),
        ({"target.taps": ("layer1", "layer1")}, "names a tap twice"),
        ({"target.taps": ("layer1,layer1",)}, "names a tap twice"),
        (
            {"target.pool": "mean"},
            "config field target.pool must be one of avg, max, first, patches, none, got 'mean'",
        ),
        ({"methods": {}}, "config section 'methods' is empty"),
        ({"simulators": {}}, "config section 'simulators' is empty"),
        (
            {"methods": {"label": {**GREEDY, "concepts": "lable"}}},
            "methods.label.concepts must be one of label, siglip, nonsense, given, got 'lable'",
        ),
        (
            {"methods": {"label": {**GREEDY, "explainer": "gredy"}}},
            "unknown explainer 'gredy': did you mean 'greedy'? "
            "(valid: greedy, top_k, preconditioned, ",
        ),
        (
            {"methods": {"label": {**GREEDY, "exchanges": 3}}},
            "unknown config field methods.label.exchanges: ",
        ),
        (
            {"methods": {"label": {**GREEDY, "max_concept": 3}}},
            "unknown config field methods.label.max_concept: did you mean 'max_concepts'?",
        ),
        (
            {"methods": {"label": {**GREEDY, "max_concepts": 0}}},
            "methods.label.max_concepts must be a whole number of at least 1, got 0",
        ),
        ({"methods": {"../x": GREEDY}}, "cannot name a folder"),
        ({"methods": {"-x": GREEDY}}, "cannot name a folder"),
        (
            {"methods": {"label": "label"}},
            "config section 'methods.label' must hold fields, got 'label'",
        ),
        (
            {"methods": {"s": {**GREEDY, "concepts": "siglip"}}},
            "config field methods.s.model must name an encoder",
        ),
        (
            {"methods": {"label": {**GREEDY, "model": "siglip_b_16_224"}}},
            "unknown config field methods.label.model: ",
        ),
        (
            {"methods.label.no_longer_than": "other"},
            "methods.label.no_longer_than must be one of none, got 'other'",
        ),
        (
            {"methods.ours": defaults.label("greedy", no_longer_than="label")},
            "methods.ours.no_longer_than needs an explainer whose mean length can be set, "
            "such as preconditioned, got 'greedy'",
        ),
        (
            {"methods.ours": defaults.label("preconditioned", no_longer_than="ours")},
            "methods.ours.no_longer_than must be one of label, got 'ours'",
        ),
        (
            {"simulators": {"labels": "label"}},
            "config field simulators.labels must be 'labels', 'given', "
            "package.module:name, or hold model, weights, dtype, got 'label'",
        ),
        (
            {"simulators": {"s": {"model": "x", "weights": None, "dtype": "float32"}}},
            "config field simulators.s.weights must be text, got None",
        ),
        (
            {"simulators": {"s": {"model": "x", "dtype": "float16"}}},
            "config field simulators.s.dtype must be one of float32, bfloat16, got 'float16'",
        ),
        (
            {"concepts.hierarchy": "wordnt"},
            "config field concepts.hierarchy must be one of '', wordnet, coarse, got 'wordnt'",
        ),
        (
            {"concepts.hierarchy": "coarse", "concepts.superclasses": {"a": ("b",)}},
            "are both set: expected one of them",
        ),
        (
            {"concepts.calibration": "none"},
            "config field concepts.calibration must be one of auto, known, trained, got 'none'",
        ),
        (
            {"search.mean_length": -1.0},
            "config field search.mean_length must be a number of at least 0, or None, got -1.0",
        ),
        ({"fit.lam": 0}, "config field fit.lam must be a number above 0, got 0"),
        ({"fit.lam": float("nan")}, "config field fit.lam must be a number above 0, got nan"),
        ({"fit.lam": "0.1"}, "config field fit.lam must be a number above 0, got '0.1'"),
        ({"fit.l1_ratio": 1.5}, "config field fit.l1_ratio must be a number in (0, 1], got 1.5"),
        (
            {"search.max_concepts": 0},
            "config field search.max_concepts must be a whole number of at least 1, got 0",
        ),
        ({"evaluation.q": 1}, "config field evaluation.q must be a number in (0, 1), got 1"),
        ({"evaluation.draws": 1}, "evaluation.draws must be 0 (none) or at least 2, got 1"),
        ({"evaluation.metrics": ("cosin",)}, "'cosin'"),
        ({"evaluation.shuffled": 1}, "evaluation.shuffled must be True or False, got 1"),
        ({"evaluation.untrained": True}, "unknown config field evaluation.untrained"),
        (
            {"evaluation.controls": -1},
            "evaluation.controls must be a whole number of at least 0, got -1",
        ),
    ],
)
def test_one_sentence_for_each_mistake(fields, words):
    with pytest.raises(ValueError) as error:
        read_config(changed(fields))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_taps_may_be_written_with_commas():
    config = read_config(changed({"target.taps": ("layer1, layer2",)}))
    assert config.target.taps == ("layer1", "layer2")


def test_settings_cannot_be_changed_once_read():
    config = read_config(changed({}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.fit.lam = 1.0
