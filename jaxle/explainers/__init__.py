"""Explainers: from a layer's activations to explanations, each method one row of a table."""

from jaxle.arrays import checks_input
from jaxle.explainers import (
    clip_dissect,
    invert,
    linear,
    network_dissection,
    preconditioned,
    published,
)
from jaxle.explainers.protocol import Explainer, Problem
from jaxle.options import suggest
from jaxle.references import is_reference, load_reference
from jaxle.solve.folds import N_FOLDS

__all__ = ["EXPLAINERS", "Explainer", "Problem", "find_explainer"]

EXPLAINERS: dict[str, Explainer] = {
    "greedy": Explainer(
        linear.Greedy,
        linear.greedy,
        "the paper's search, Algorithm 1",
        version=2,
        formulas=True,
        from_moments=True,
    ),
    "top_k": Explainer(
        linear.TopK,
        linear.top_k,
        "the paper's B.4: the largest weights",
        version=2,
        from_moments=True,
    ),
    "preconditioned": Explainer(
        preconditioned.Preconditioned,
        preconditioned.explain,
        "jaxle's own: selects on a denoised target among all concepts",
        folds=N_FOLDS,
        version=3,
        formulas=True,
        from_moments=True,
    ),
    "clip_dissect": Explainer(
        clip_dissect.ClipDissect,
        clip_dissect.explain,
        "CLIP-Dissect: the text that fits the most activating images",
        needs=("cosines",),
    ),
    "network_dissection": Explainer(
        network_dissection.NetworkDissection,
        network_dissection.explain,
        "Network Dissection: the concept whose pixels a neuron's map overlaps most, by IoU",
        needs=("masks",),
    ),
    "invert": Explainer(
        invert.Invert,
        invert.explain,
        "INVERT: the formula over labels that separates high activations from low, by AUROC",
        version=2,
    ),
    "published": Explainer(
        published.Published,
        published.explain,
        "a file's: MILAN, Network Dissection, CLIP-Dissect or LE, as published or written by a run",
        needs=("file",),
        words=published.words,
        check=published.check,
        version=2,
    ),
}


@checks_input
def find_explainer(name: str) -> Explainer:
    """Returns the explainer of that name, of the table or "package.module:NAME" from outside.

    Raises:
      ValueError: an unknown name, or a reference to something that is no `Explainer`.
    """
    if not isinstance(name, str):
        raise ValueError(f"search must name an explainer ({', '.join(EXPLAINERS)}), got {name!r}.")
    if name in EXPLAINERS:
        return EXPLAINERS[name]
    if not is_reference(name):
        raise ValueError(f"unknown explainer {name!r}: {suggest(name, EXPLAINERS)}.")
    found = load_reference(name, "explainer")
    if not isinstance(found, Explainer):
        raise ValueError(
            f"{name!r} is {type(found).__name__}; expected a jaxle.explainers.Explainer."
        )
    return found
