"""What the paper's experiments share: LE(Label) and LE(SigLIP), scored by another SigLIP.

Source: Oikarinen & Weng, Linear Explanations for Individual Neurons, ICML 2024 (arXiv 2405.06855),
section 4 and appendix B. A variant is written behind the file's name, several joined by `-`:
`--config configs/resnet50.py:layers-top_5`. All of them: docs/paper.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxle.pipeline import defaults

EXPLAINER = "siglip_l_16_384"  # ViT-L-16-SigLIP-384
SIMULATOR = "siglip_so400m_14_384"  # ViT-SO400M-14-SigLIP-384: never the explainer itself
CLIP = "clip_vit_l_14_336"
DISSECTOR = "clip_vit_b_16"  # CLIP-Dissect's own encoder
BRODEN = (
    "colours",
    "materials",
    "textures",
    "parts",
    "scenes",
)  # after Broden's kinds of labels, which the paper uses themselves


def get_config() -> Any:
    """The fields of `common`, set as in the paper where its experiments agree; the target and its
    data are left to each of them."""
    config = defaults.get_config()
    config.data.batch_size = 64
    config.concepts.sets = ("classes", "superclasses", *BRODEN, "nouns")
    config.methods.siglip = defaults.siglip(EXPLAINER)
    config.simulators = ConfigDict({"so400m": defaults.tower(SIMULATOR)})
    return config


def vary(
    config: Any,
    variant: str,
    own: Mapping[str, Callable[[Any], None]],
    apart: Sequence[Sequence[str]] = (),
) -> Any:
    """Applies the options that `variant` names, in this file's order (dry last).

    A config calls it at its end.

    Args:
      config: changed in place.
      variant: names out of `VARIANTS` and `own`, joined by "-"; "" for none.
      own: the config's own options.
      apart: groups of own options of which one at most can be asked for.

    Returns:
      The config.

    Raises:
      ValueError: an unknown name, one that is there twice, or two that contradict each other.
    """
    return apply(config, variant, {**own, **VARIANTS}, (*apart, *APART))


def apply(
    config: Any,
    variant: str,
    options: Mapping[str, Callable[[Any], None]],
    apart: Sequence[Sequence[str]] = (),
) -> Any:
    """As `vary`, of these options alone."""
    asked = variant.split("-") if variant else []
    if unknown := [name for name in asked if name not in options]:
        raise ValueError(
            f"unknown variant {unknown[0]!r}; expected one or more of {', '.join(options)}, "
            "joined by '-'"
        )
    if twice := [name for name in options if asked.count(name) > 1]:
        raise ValueError(f"variant {twice[0]!r} is named twice; expected each once")
    for group in apart:
        if len(both := [name for name in asked if name in group]) > 1:
            raise ValueError(
                f"variants {' and '.join(map(repr, both))} contradict each other; expected one of "
                f"{', '.join(group)}"
            )
    for name, change in options.items():
        if name in asked:
            change(config)
    return config


def _clip_simulator(config: Any) -> None:
    config.simulators.clip = defaults.tower(CLIP)


def _class_names(config: Any) -> None:
    config.concepts.sets = ("classes",)


def _common_words(config: Any) -> None:
    config.concepts.sets = ("common_words",)


def _clip_explainer(config: Any) -> None:
    del config.methods.siglip
    config.methods.clip = defaults.siglip(CLIP)


def _top(k: int) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        config.search.max_concepts = k
        for method in config.methods.values():
            method.explainer = "top_k"

    return change


def _preconditioned(config: Any) -> None:
    for name, method in list(config.methods.items()):
        better = defaults.like(method, "preconditioned", no_longer_than=name)
        config.methods[f"{name}_preconditioned"] = better


def _baselines(config: Any) -> None:
    for name in ("label", "siglip", "clip"):
        better = f"{name}_preconditioned"
        if name in config.methods and better not in config.methods:
            own = defaults.like(config.methods[name], "preconditioned", no_longer_than=name)
            config.methods[better] = own
    config.methods.clip_dissect = defaults.siglip(DISSECTOR, explainer="clip_dissect")
    config.methods.invert = defaults.label("invert")


def _published(name: str) -> Callable[[Any], None]:
    def change(config: Any) -> None:
        config.methods[name] = defaults.published(f"{name}.csv")

    return change


def dry(config: Any) -> None:
    """Rehearses the whole program on generated images and random weights."""
    config.data.source = "generated:40"
    config.data.split = ""
    config.data.batch_size = 8
    config.target.weights = "generated"
    for tower in (*config.methods.values(), *config.simulators.values()):
        if "weights" in tower:
            tower.weights = "generated"
    few = tuple(name for name in config.concepts.sets if name in ("classes", "superclasses"))
    config.concepts.sets = (*few, "colours", "textures")  # about a hundred words
    config.fit.min_top5 = 0.0  # towers of random weights would screen every concept out


VARIANTS: dict[str, Callable[[Any], None]] = {
    # B.1: CLIP ViT-L/14-336 as a second simulator
    "clip_simulator": _clip_simulator,
    # B.2: the class names alone, or common English words (the paper: 20,000; ours: some 11,000)
    "class_names": _class_names,
    "common_words": _common_words,
    # B.3: CLIP ViT-L/14-336 in place of SigLIP
    "clip_explainer": _clip_explainer,
    # B.4: no greedy search, the four or five concepts of largest weight
    "top_4": _top(4),
    "top_5": _top(5),
    # not the paper's: beside each method, explanations that are no longer and fit better
    "preconditioned": _preconditioned,
    # the paper's other methods beside its own: CLIP-Dissect by CLIP ViT-B/16 on the same words,
    # INVERT on the labels; and preconditioned
    "baselines": _baselines,
    # and those that its authors publish, of a file: --config.methods.milan.file=FILE
    "milan": _published("milan"),
    "netdissect": _published("netdissect"),
    # the whole program at full shapes on generated images and random weights: nothing is
    # downloaded, and no number means anything
    "dry": dry,
}
# options that set the same field
APART = (("class_names", "common_words"), ("top_4", "top_5"))
