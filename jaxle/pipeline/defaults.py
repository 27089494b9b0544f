"""The template that config files start from: every field of `pipeline.config`, with its default.

from jaxle.pipeline import defaults

def get_config():
    config = defaults.get_config()
    config.methods.siglip = defaults.siglip("siglip_l_16_384")
    return config
"""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict, config_dict

from jaxle.explainers import find_explainer
from jaxle.options import Option, describe
from jaxle.pipeline.config import Config
from jaxle.pipeline.reading import ENCODER, LABELS, SECTIONS


def get_config() -> Any:
    """Returns a `ConfigDict` with every field; one method by labels, simulated by labels."""
    config = ConfigDict({name: _default(of) for name, of in describe(Config).items()})
    for name, cls in SECTIONS.items():
        config[name] = ConfigDict({field: _default(of) for field, of in describe(cls).items()})
    config.methods = ConfigDict({"label": label()})
    config.simulators = ConfigDict({LABELS: LABELS})
    return config


def label(explainer: str = "greedy", no_longer_than: str = "", **options: Any) -> ConfigDict:
    """Returns a method that explains with the data's own labels.

    Args:
      explainer: greedy (the paper's), top_k, preconditioned, or package.module:NAME.
      no_longer_than: preconditioned: another method, whose mean length is this one's limit.
      options: the explainer's own; one that is not given is as in `config.fit`, `config.search`.
    """
    return _method("label", explainer, no_longer_than, options)


def siglip(
    model: str,
    weights: str = "",
    explainer: str = "greedy",
    dtype: str = "float32",
    no_longer_than: str = "",
    **options: Any,
) -> ConfigDict:
    """Returns a method that explains with a two-tower encoder's probabilities of words.

    Args:
      model, weights, dtype: the encoder: SigLIP, SigLIP 2, CLIP or PE-Core of the zoo.
      explainer, no_longer_than, options: as in `label`.
    """
    return _method("siglip", explainer, no_longer_than, options, tower(model, weights, dtype))


def nonsense(
    model: str, weights: str = "", explainer: str = "greedy", dtype: str = "float32", **options: Any
) -> ConfigDict:
    """Returns a method that is a null: as many words that mean nothing, by an encoder."""
    return _method("nonsense", explainer, "", options, tower(model, weights, dtype))


def given(explainer: str = "greedy", no_longer_than: str = "", **options: Any) -> ConfigDict:
    """Returns a method that explains with probabilities that lie beside the images.

    Args:
      explainer, no_longer_than, options: as in `label`.
    """
    return _method("given", explainer, no_longer_than, options)


def published(file: str, layer: str = "") -> ConfigDict:
    """Returns a method whose explanations are a file's: MILAN, Network Dissection, an earlier run.

    Its ceiling is that of the labels; `like(method, "published", file=…)` puts it beside another
    method, as where the data have no labels.

    Args:
      file: CSV, as the paper's authors or Network Dissection publish it, or a run writes it.
      layer: which layer of the file, where none of them is named like the tap.
    """
    return _method("label", "published", "", {"file": file, "layer": layer})


def tower(model: str, weights: str = "", dtype: str = "float32") -> ConfigDict:
    """Returns a simulator of `config.simulators`: a two-tower encoder."""
    return ConfigDict({"model": model, "weights": weights, "dtype": dtype})


def like(method: Any, explainer: str, no_longer_than: str = "", **options: Any) -> ConfigDict:
    """Returns a method on the same concepts as another one, by another explainer.

    Args:
      method: an entry of `config.methods`.
      explainer, no_longer_than, options: as in `label`.
    """
    encoder = {name: method[name] for name in ENCODER if name in method}
    tower = ConfigDict(encoder) if encoder else None
    return _method(method.concepts, explainer, no_longer_than, options, tower)


def _method(
    concepts: str,
    explainer: str,
    no_longer_than: str,
    options: dict[str, Any],
    encoder: ConfigDict | None = None,
) -> ConfigDict:
    entry: dict[str, Any] = {"concepts": concepts, "explainer": explainer}
    entry |= {"no_longer_than": no_longer_than, "formulas": 0}
    entry |= {} if encoder is None else encoder.to_dict()
    own = describe(find_explainer(explainer).options)
    entry |= {name: config_dict.placeholder(of.kind) for name, of in own.items()}
    return ConfigDict(entry | options)


def _default(of: Option) -> Any:
    if of.kind is dict:
        return ConfigDict(of.default)
    return config_dict.placeholder(of.kind) if of.default is None else of.default
