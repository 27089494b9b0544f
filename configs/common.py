"""What every experiment shares: each setting with its default and its meaning; an experiment's file changes what it is about.

The defaults of `fit` and `search` are the paper's (Linear Explanations for Individual Neurons, ICML 2024, appendix A).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The full set of fields; a config that starts from here cannot miss one."""
    config = ConfigDict()
    config.seed = 0  # splits, subsets and generated images
    config.workdir = ""  # "" = runs/<config file's name>[-<variant>]

    config.data = ConfigDict()
    config.data.source = "scenes"  # tfds:NAME | folder:PATH | arrays:PATH | scenes
    config.data.split = ""  # tfds only: the data set's split, such as test
    config.data.limit = 0  # 0 = all images, else a seeded subset
    config.data.batch_size = 256  # images a step of the probe pass, over all devices
    config.data.workers = 0  # decoding processes; 0 decodes in threads
    config.data.split_fractions = (0.7, 0.1, 0.2)  # train, val, test
    config.data.split_files = (
        ""  # folder with train, val and test index files (.npy or .txt) instead of a seeded split
    )

    config.target = ConfigDict()
    config.target.model = "scenes_resnet"  # a name of jaxle.models.zoo, or your own as package.module:Class (docs/your_own_network.md)
    config.target.weights = ""  # file, folder, URL or hub id; "" = the zoo's own
    config.target.dtype = "float32"  # or bfloat16
    config.target.arguments = ConfigDict()  # your class's keyword arguments
    config.target.call = ConfigDict()  # further arguments of its __call__, such as {"train": False}
    config.target.preprocess = ConfigDict()  # fields of jaxle.images.Preprocess; empty = the zoo's
    config.target.class_names = ()  # empty = the zoo's
    config.target.taps = ("layer3",)  # module paths or aliases; all are recorded in one pass
    config.target.pool = "avg"  # avg | max | first | none
    config.target.dead_threshold = 0.01  # a neuron whose maximum stays below is flagged dead

    config.concepts = ConfigDict()
    config.concepts.superclasses = ConfigDict()  # name -> tuple of classes or other superclasses
    config.concepts.hierarchy = ""  # wordnet: classes that are its synsets, or CIFAR's | coarse: CIFAR-100's own | "" = the dict above
    config.concepts.sets = (
        "classes",
        "superclasses",
    )  # words of the siglip methods: names of jaxle.concepts.sets, and file:PATH
    config.concepts.templates = ()  # prompts such as "a photo of a {}."; empty = the bare word, as in the paper
    config.concepts.calibration = "auto"  # auto: fitted on labels, where there are any | known: the paper's constants | trained

    config.methods = ConfigDict()
    config.methods.label = label()

    config.simulators = ConfigDict(
        {"labels": "labels"}
    )  # name -> "labels", or tower(…): a second encoder

    config.fit = ConfigDict()
    config.fit.lam = 0.05 / 0.99
    config.fit.l1_ratio = 0.99
    config.fit.tol = 1e-6  # on the duality gap relative to the objective at zero
    config.fit.min_top5 = (
        0.5  # screening: least mean of a concept's five largest probabilities; 0 = off
    )

    config.search = ConfigDict()
    config.search.max_concepts = 10
    config.search.n_candidates = 10
    config.search.min_gain = 0.02
    config.search.mean_length = 0.0  # preconditioned: choose min_gain so that explanations are no longer on average; 0 = min_gain as it is
    config.search.exchanges = 3  # preconditioned: rounds in which each chosen concept may give way to a better one; 0 = none
    config.search.teacher = (
        True  # preconditioned: select on the dense ridge's prediction, not on the activation itself
    )

    config.evaluation = ConfigDict()
    config.evaluation.ceiling = (
        True  # dense ridge on all concepts: what they could express at any length
    )
    config.evaluation.untrained = False  # the whole run again on the re-initialised network
    config.evaluation.shuffled = False  # … and on the network with every parameter tensor shuffled
    config.evaluation.draws = (
        1000  # bootstrap over test images: 95 % intervals and paired comparisons; 0 = none
    )
    config.evaluation.permutations = 5  # permute and refit: how often, for p-values; 0 = none
    config.evaluation.q = 0.05  # false discovery rate at which neurons count as explained
    config.evaluation.metrics = True  # cosine, AUPRC, F1, IoU, R² beside the correlation
    config.evaluation.contributions = (
        True  # what each concept of an explanation adds: <tap>/<method>/concepts.csv
    )
    config.evaluation.selection_draws = (
        0  # refits on resampled images: how often each concept is chosen again; 0 = none
    )
    config.evaluation.ablation = (
        ""  # ablation scores: best | reference (the paper's procedure for c, d) | "" = none
    )
    config.evaluation.ablation_images = (
        500  # outside a linear tail: at most so many val and so many test images
    )
    config.evaluation.ablation_neurons = (
        0  # outside a linear tail: at most so many neurons a tap; 0 = all
    )
    config.evaluation.impact = False  # Top Impact: which images a neuron matters for

    config.report = ConfigDict()
    config.report.listing = 3  # best, median and worst neurons listed at the end; 0 = none

    config.mesh = ConfigDict()
    config.mesh.data = 0  # devices along `data`; 0 = all that `model` leaves
    config.mesh.model = 1
    return config


def label(search: str = "greedy", no_longer_than: str = "") -> ConfigDict:
    """A method of `config.methods`: the data's own labels as concepts.

    search: greedy (the paper's) | top_k | preconditioned (jaxle's own, which may take another method's mean length as its limit).
    """
    return ConfigDict({"concepts": "label", "search": search, "no_longer_than": no_longer_than})


def siglip(
    model: str,
    weights: str = "",
    search: str = "greedy",
    dtype: str = "float32",
    no_longer_than: str = "",
) -> ConfigDict:
    """A method of `config.methods`: the probabilities of a two-tower encoder (SigLIP, SigLIP 2 or CLIP of the zoo) as concepts."""
    return ConfigDict(
        {
            "concepts": "siglip",
            "search": search,
            "no_longer_than": no_longer_than,
            **tower(model, weights, dtype),
        }
    )


def nonsense(
    model: str, weights: str = "", search: str = "greedy", dtype: str = "float32"
) -> ConfigDict:
    """A method that is a null: as many words that mean nothing, by an encoder. What it scores, chance scores."""
    return ConfigDict({"concepts": "nonsense", "search": search, **tower(model, weights, dtype)})


def tower(model: str, weights: str = "", dtype: str = "float32") -> ConfigDict:
    """A simulator of `config.simulators`: a two-tower encoder of the zoo; "" takes the zoo's weights."""
    return ConfigDict({"model": model, "weights": weights, "dtype": dtype})
