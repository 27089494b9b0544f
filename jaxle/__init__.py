"""jaxle: every neuron of a vision network explained as a short weighted sum of words.

The public names of the package. Importing jaxle imports no network, no data set and no plotting
code: each name below is loaded when it is first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers read
    from jaxle import plots as plots
    from jaxle.data.splits import Split as Split
    from jaxle.evaluation.compare import compare as compare
    from jaxle.evaluation.correlation import correlation as correlation
    from jaxle.evaluation.evaluate import evaluate as evaluate
    from jaxle.evaluation.simulation import simulate as simulate
    from jaxle.explainers.explain import explain as explain
    from jaxle.explanations import Explanation as Explanation
    from jaxle.explanations import Explanations as Explanations
    from jaxle.models.zoo import load_model as load_model
    from jaxle.pipeline.find import find as find
    from jaxle.pipeline.load import load_run as load_run
    from jaxle.pipeline.split import split as split
    from jaxle.solve.lasso import elastic_net as elastic_net

__version__ = version("jaxle")

_HOMES = {
    "Explanation": "jaxle.explanations",
    "Explanations": "jaxle.explanations",
    "Split": "jaxle.data.splits",
    "compare": "jaxle.evaluation.compare",
    "correlation": "jaxle.evaluation.correlation",
    "elastic_net": "jaxle.solve.lasso",
    "evaluate": "jaxle.evaluation.evaluate",
    "explain": "jaxle.explainers.explain",
    "find": "jaxle.pipeline.find",
    "load_model": "jaxle.models.zoo",
    "load_run": "jaxle.pipeline.load",
    "plots": "jaxle.plots",
    "simulate": "jaxle.evaluation.simulation",
    "split": "jaxle.pipeline.split",
}
__all__ = [
    "Explanation",
    "Explanations",
    "Split",
    "compare",
    "correlation",
    "elastic_net",
    "evaluate",
    "explain",
    "find",
    "load_model",
    "load_run",
    "plots",
    "simulate",
    "split",
]
assert sorted(_HOMES) == __all__


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(
            f"module 'jaxle' has no attribute {name!r}; it offers {', '.join(__all__)}"
        )
    home = import_module(_HOMES[name])
    return home if _HOMES[name] == f"jaxle.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
