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
    config.data.split_files = ""  # folder with train, val and test index files (.npy or .txt) instead of a seeded split

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

    config.methods = ConfigDict()
    config.methods.label = ConfigDict({"concepts": "label", "search": "greedy"})  # search: greedy | top_k

    config.simulators = ConfigDict({"labels": "labels"})

    config.fit = ConfigDict()
    config.fit.lam = 0.05 / 0.99
    config.fit.l1_ratio = 0.99
    config.fit.tol = 1e-6  # on the duality gap relative to the objective at zero
    config.fit.min_top5 = 0.5  # screening: least mean of a concept's five largest probabilities; 0 = off

    config.search = ConfigDict()
    config.search.max_concepts = 10
    config.search.n_candidates = 10
    config.search.min_gain = 0.02

    config.evaluation = ConfigDict()
    config.evaluation.ceiling = True  # dense ridge on all concepts: what they could express at any length
    config.evaluation.untrained = False  # the whole run again on the re-initialised network

    config.report = ConfigDict()
    config.report.listing = 3  # best, median and worst neurons listed at the end; 0 = none

    config.mesh = ConfigDict()
    config.mesh.data = 0  # devices along `data`; 0 = all that `model` leaves
    config.mesh.model = 1
    return config
