"""The settings of a run: schema, defaults, ranges and documentation in one place.

A config file builds an `ml_collections.ConfigDict` from `pipeline.defaults`; `pipeline.reading`
turns it into these records or refuses it with one sentence. docs/config.md is made from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxle.evaluation import METRICS
from jaxle.evaluation.scores import DRAWS
from jaxle.explainers.linear import Greedy
from jaxle.explainers.preconditioned import Preconditioned
from jaxle.models.taps import POOLS
from jaxle.options import describe, option

ABLATIONS = ("", "best", "reference")
DTYPES = ("float32", "bfloat16")
CONCEPTS = ("label", "siglip", "nonsense", "given")
ON_ERROR = ("stop", "skip")
IMAGES = ("all", "thumbnails", "none")


@dataclass(frozen=True)
class Data:
    """Which images are looked at, and how they are read and split."""

    source: str = option(
        "scenes",
        "tfds:NAME, folder:PATH, pictures:PATH, arrays:PATH, masks:PATH, scenes, generated:N, or "
        "package.module:X",
    )
    split: str = option("", "tfds only: the data set's split, such as test")
    limit: int = option(0, "at most so many images, a seeded subset; 0 = all", low=0)
    batch_size: int = option(256, "images a step of the probe pass, in each process", low=1)
    workers: int = option(0, "decoding processes; 0 decodes in threads", low=0)
    timeout: float = option(300.0, "seconds that 32 images may take; 0 = for ever", low=0)
    on_error: str = option(
        "stop",
        "at an image that cannot be decoded; skip: as if the data lacked it (skipped.csv)",
        choices=ON_ERROR,
    )
    split_fractions: tuple[float, ...] = option((0.7, 0.1, 0.2), "shares of train, val and test")
    split_files: str = option("", "folder with train, val and test index files (.npy or .txt)")


@dataclass(frozen=True)
class Target:
    """The network to explain."""

    model: str = option(
        "scenes_resnet",
        "a name of the zoo, package.module:Class, or arrays: activations beside the images",
    )
    weights: str = option("", "file, folder, URL or hub id; empty = the zoo's own")
    dtype: str = option("float32", "of parameters and arithmetic", choices=DTYPES)
    arguments: dict[str, Any] = option({}, "your class's keyword arguments")
    call: dict[str, Any] = option({}, "further arguments of its __call__")
    preprocess: dict[str, Any] = option({}, "fields of jaxle.images.Preprocess; empty = the zoo's")
    class_names: tuple[str, ...] = option((), "one name a logit; empty = the zoo's")
    taps: tuple[str, ...] = option(
        ("layer3",), "module paths or aliases, read in one pass; of arrays * is all"
    )
    pool: str = option("avg", "over positions", choices=POOLS)
    units: str = option(
        "neurons", "or directions:FILE, sae:FILE, random:K, pca:K, semi_nmf:K, concept_vectors"
    )
    unit_options: dict[str, Any] = option({}, "of these units: docs/units.md")
    min_explained_variance: float = option(
        0.5, "of an SAE's reconstruction on the probe images, else the run stops; 0 = any", low=0
    )
    dead_threshold: float = option(
        0.01, "behind a rectifier: a neuron whose maximum stays below is flagged dead"
    )


@dataclass(frozen=True)
class Concepts:
    """What explanations may speak of."""

    superclasses: dict[str, Any] = option({}, "name → its classes or other superclasses")
    hierarchy: str = option(
        "",
        "wordnet: of classes that are its synsets; coarse: CIFAR-100's; empty: the dict above",
        choices=("", "wordnet", "coarse"),
    )
    sets: tuple[str, ...] = option(
        ("classes", "superclasses"), "words for an encoder: set names, file:PATH, package.module:x"
    )
    templates: tuple[str, ...] = option((), 'prompts such as "a photo of a {}."; empty = the word')
    formulas: int = option(
        1,
        "most words of a candidate: 2 adds A AND B, A AND NOT B for searches that count words",
        low=1,
        high=2,
    )
    calibration: str = option(
        "auto",
        "auto: fitted on labels where there are any; known: the paper's constants; trained",
        choices=("auto", "known", "trained"),
    )


def _shared(cls: type, name: str) -> Any:
    """An explainer's option as a field of the config, with the same default, range and meaning."""
    of = describe(cls)[name]
    ranges = {"low": of.low, "high": of.high, "above": of.above, "below": of.below}
    return option(of.default, of.meaning, choices=of.choices, **ranges)


@dataclass(frozen=True)
class Fit:
    """Screening, and options of the sparse fit that every method takes unless it sets its own."""

    lam: float = _shared(Greedy, "lam")
    l1_ratio: float = _shared(Greedy, "l1_ratio")
    tol: float = _shared(Greedy, "tol")
    min_top5: float = option(
        0.5,
        "screening: least mean of a concept's five largest probabilities; 0 = off",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class Search:
    """Options of the search that every method takes unless it sets its own."""

    max_concepts: int = _shared(Greedy, "max_concepts")
    n_candidates: int = _shared(Greedy, "n_candidates")
    min_gain: float = _shared(Greedy, "min_gain")
    above_noise: bool = _shared(Greedy, "above_noise")
    mean_length: float | None = _shared(Preconditioned, "mean_length")
    exchanges: int = _shared(Preconditioned, "exchanges")
    teacher: bool = _shared(Preconditioned, "teacher")


@dataclass(frozen=True)
class Evaluation:
    """How far explanations can be trusted."""

    ceiling: bool = option(
        True, "the best known fit in the same concepts, at any length, beside every score"
    )
    controls: int = option(
        0, "untrained networks to be better than, each of its own seed; five or more", low=0
    )
    shuffled: bool = option(False, "and on the network with every parameter tensor shuffled")
    draws: int = option(1000, "bootstrap resamples of the test images; 0 = no intervals", low=0)
    permutations: int = option(DRAWS, "of the test images, for p-values; 0 = none", low=0)
    refits: int = option(0, "on permuted activations: how optimistic val correlations are", low=0)
    q: float = option(0.05, "false discovery rate of the neurons explained", above=0, below=1)
    metrics: tuple[str, ...] = option(
        tuple(METRICS), "columns of scores.csv: rows of evaluation.METRICS, or package.module:NAME"
    )
    contributions: bool = option(True, "what each concept of an explanation adds: concepts.csv")
    selection_draws: int = option(
        0, "refits of searches on resampled images: how stable the words are; 0 = none", low=0
    )
    ablation: str = option(
        "", "ablation scores; reference = the paper's procedure", choices=ABLATIONS
    )
    ablation_images: int = option(500, "outside a linear tail: val and test images each", low=1)
    ablation_neurons: int = option(0, "outside a linear tail: neurons a tap; 0 = all", low=0)
    counterfactual: int = option(
        0, "pairs of edited pictures that test whether neurons change as explained; 0 = none", low=0
    )
    impact: bool = option(False, "Top Impact: which images a neuron matters for")


@dataclass(frozen=True)
class Report:
    """What is shown at the end: on the terminal, and in report/index.html."""

    listing: int = option(3, "best, median and worst neurons listed a layer; 0 = none", low=0)
    images: str = option(
        "thumbnails",
        "all: thumbnails, and pictures of up to 512 pixels; none, where a licence forbids copies",
        choices=IMAGES,
    )
    megabytes: int = option(500, "at most so many of pictures; then smaller and fewer", low=1)
    maps: bool = option(True, "where a neuron responds in its pictures, for taps with positions")


@dataclass(frozen=True)
class MeshSizes:
    """How the devices are laid out."""

    data: int = option(0, "devices along `data`; 0 = all that `model` leaves", low=0)
    model: int = option(1, "devices along `model`", low=1)
    silence: float = option(
        60.0, "seconds without an answer after which another process counts as gone", low=1
    )
    patience: float = option(86_400.0, "seconds to wait for a process that is there", low=1)


@dataclass(frozen=True)
class Encoder:
    """A two-tower network that explains or simulates."""

    model: str = option("", "SigLIP, SigLIP 2, CLIP or PE-Core of the zoo, or package.module:name")
    weights: str = option("", "file, folder or hub id; empty = the zoo's own")
    dtype: str = option("float32", "of parameters and arithmetic", choices=DTYPES)


@dataclass(frozen=True)
class Method:
    """An entry of `methods`; the explainer's own options stand beside these."""

    concepts: str = option(
        "label",
        "label: the data's labels; siglip: an encoder's probabilities; nonsense: made-up words; "
        "given: probabilities that lie beside the images (arrays:PATH)",
        choices=CONCEPTS,
    )
    explainer: str = option("greedy", "a row of EXPLAINERS, or package.module:NAME")
    formulas: int = option(0, "as concepts.formulas; 0 = that one", low=0, high=2)
    no_longer_than: str = option("", "another method, whose mean length is this one's limit")
    encoder: Encoder | None = None  # of siglip and nonsense
    options: Any = None  # the explainer's own record


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    data: Data
    target: Target
    concepts: Concepts
    methods: Mapping[str, Method]
    # "labels", "given", package.module:name, or an encoder
    simulators: Mapping[str, str | Encoder]
    fit: Fit
    search: Search
    evaluation: Evaluation
    report: Report
    mesh: MeshSizes
    seed: int = option(0, "of splits, subsets, generated images and controls", low=0)
    workdir: str = option("", "empty = runs/<config file's name>[-<variant>]")

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """Those of methods and simulators, each once, in order of first use."""
        used = [method.encoder for method in self.methods.values()] + list(self.simulators.values())
        return tuple(dict.fromkeys(entry for entry in used if isinstance(entry, Encoder)))
