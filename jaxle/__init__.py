"""jaxle: every neuron of a vision network explained as a short weighted sum of words.

The public names of the package. Importing jaxle imports no network, no data set and
no plotting code: each name below is loaded when it is first used.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("jaxle")

_HOMES = {
    "Explanation": "jaxle.explanations",
    "Explanations": "jaxle.explanations",
    "Split": "jaxle.data.splits",
    "correlation": "jaxle.evaluation.correlation",
    "elastic_net": "jaxle.solve.lasso",
    "explain": "jaxle.explainers.linear",
    "load_model": "jaxle.models.zoo",
    "simulate": "jaxle.evaluation.simulation",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(
            f"module 'jaxle' has no attribute {name!r}; it offers {', '.join(__all__)}"
        )
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
