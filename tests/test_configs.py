"""The paper's configs: every one and every variant is complete, names what exists, and says how it
is run."""

import importlib
import re

import jax
import jax.numpy as jnp
import pytest
import tensorflow_datasets as tfds

from configs import paper
from jaxle.concepts import sets, wordnet
from jaxle.data.generated import generate_folder, generated_count
from jaxle.models import taps, zoo
from jaxle.pipeline.reading import read_config
from tests.runs import ROOT

OWN = {  # config → its own variants
    "resnet50": ("layers", "conv1"),
    "resnet18_places365": ("layers", "conv1"),
    "vgg16_cifar100": ("features",),
    "vit_b16": ("residual", "block10"),
    "vit_l32": (),
}
WIDTHS = {  # neurons of each tap that a variant names
    ("resnet50", ""): [2048],
    ("resnet50", "layers"): [256, 512, 1024, 2048],
    ("resnet50", "conv1-layers"): [64, 256, 512, 1024, 2048],
    ("resnet18_places365", ""): [512],
    ("resnet18_places365", "layers-conv1"): [64, 64, 128, 256, 512],
    ("vgg16_cifar100", ""): [512],
    ("vgg16_cifar100", "features"): [512],
    ("vit_b16", ""): [3072],
    ("vit_b16", "residual"): [3072, 768],
    ("vit_b16", "block10"): [3072, 768],
    ("vit_l32", ""): [4096],
}
DATA = {
    "resnet50": "imagenet2012",
    "resnet18_places365": "places365_small",
    "vgg16_cifar100": "cifar100",
}
APART = (*paper.APART, ("residual", "block10"))  # of each group one at most


def together(names):
    """All variants at once that do not contradict each other."""
    return "-".join(n for n in names if not any(n in group[1:] for group in APART))


ALL = [
    (name, variant)
    for name, own in OWN.items()
    for variant in ("", *own, *paper.VARIANTS, together((*own, *paper.VARIANTS)))
]


def load(name: str, variant: str = ""):
    return importlib.import_module(f"configs.{name}").get_config(variant)


def towers(config):
    entries = (*config.methods.values(), *config.simulators.values())
    return [entry for entry in entries if not isinstance(entry, str) and "weights" in entry]


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_every_variant_is_complete_and_names_models_of_the_zoo(name, variant):
    config = load(name, variant)
    read_config(config.to_dict())
    assert all(zoo.ZOO[tower.model].text for tower in towers(config))
    assert not zoo.ZOO[config.target.model].text
    explainers = {method.model for method in config.methods.values() if "model" in method}
    simulators = {tower.model for tower in config.simulators.values()}
    assert explainers and simulators
    assert paper.CLIP in explainers or not explainers & simulators


SITES: dict = {}


@pytest.mark.parametrize(("name", "variant"), WIDTHS)
def test_taps_are_the_papers_layers(name, variant):
    """Nothing is computed: shapes only, at full size."""
    config = load(name, variant)
    entry = zoo.ZOO[config.target.model]
    if name not in SITES:
        images = jax.ShapeDtypeStruct(
            (1, entry.preprocess.size, entry.preprocess.size, 3), jnp.float32
        )
        module = entry.module()
        SITES[name] = taps.sites(
            module, jax.eval_shape(module.init, jax.random.key(0), images), images
        )
    found = SITES[name]
    shapes = [found[taps.resolve(tap, found, entry.aliases)].shape for tap in config.target.taps]
    pooled = [
        jax.eval_shape(
            lambda value: taps.pool(value, config.target.pool),
            jax.ShapeDtypeStruct((2, *s), jnp.float32),
        )
        for s in shapes
    ]
    assert [value.shape for value in pooled] == [(2, width) for width in WIDTHS[name, variant]]


@pytest.mark.parametrize("name", OWN)
def test_the_docstring_holds_the_command_and_the_papers_numbers(name):
    text = importlib.import_module(f"configs.{name}").__doc__
    assert f"\n    python -m jaxle.launch --config configs/{name}.py\n" in text
    assert "LE(Label) ." in text and "LE(SigLIP) ." in text and "`:dry`" in text
    assert all(f"`{variant}`" in text for variant in OWN[name])


@pytest.mark.parametrize("name", OWN)
def test_the_page_of_the_paper_has_the_configs_and_variants(name):
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert f"configs/{name}.py" in page and all(
        f"`{variant}`" in page for variant in (*OWN[name], *paper.VARIANTS)
    )
    numbers = re.findall(r"(?<![\d.])\.\d{4}", importlib.import_module(f"configs.{name}").__doc__)
    assert len(numbers) >= 3 and all(number in page for number in numbers)


@pytest.mark.parametrize("name", OWN)
def test_data_sets_are_tfds_own(name):
    config = load(name)
    kind, _, data_set = config.data.source.partition(":")
    assert kind == "tfds" and data_set == DATA.get(name, "imagenet2012")
    assert tfds.builder_cls(data_set).VERSION and config.data.split in ("validation", "test")


@pytest.mark.parametrize("name", OWN)
def test_concepts_are_the_papers_kinds(name):
    config = load(name)
    classes, superclasses = concepts_of_data(config, zoo.ZOO[config.target.model].class_names)
    union = sets.gather(config.concepts.sets, classes, superclasses)
    assert len(union.concepts) > 4500 and {"classes", "nouns", "textures", "parts"} <= set(
        union.origin
    )
    assert ("superclasses" in union.origin) == (name != "resnet18_places365")


@pytest.mark.parametrize("name", OWN)
def test_a_dry_run_names_nothing_to_download(name, tmp_path):
    config = load(name, "dry")
    assert config.target.weights == "generated" and all(
        tower.weights == "generated" for tower in towers(config)
    )
    assert len(towers(config)) == 2 and config.fit.min_top5 == 0 and not config.workdir
    n = generated_count(config.data.source)
    assert n >= 40
    path = generate_folder(tmp_path, n, zoo.ZOO[config.target.model].class_names, size=(8, 8))
    classes, superclasses = concepts_of_data(
        config, (path / "classes.txt").read_text().split("\n")[:-1]
    )
    assert (
        (100 if superclasses else 96)
        <= len(sets.gather(config.concepts.sets, classes, superclasses).concepts)
        <= 130
    )


def concepts_of_data(config, class_names):
    """Readable class names and superclasses, as the config's hierarchy gives them."""
    if config.concepts.hierarchy == "wordnet":
        described = wordnet.describe(class_names)
        return described.class_names, tuple(described.superclasses)
    return class_names, tuple(
        wordnet.coarse(class_names)
    ) if config.concepts.hierarchy == "coarse" else ()


def test_variants_join_in_any_order_and_unknown_ones_are_refused():
    assert load("resnet50", "dry-layers") == load("resnet50", "layers-dry")
    top_4 = load("resnet50", "top_4")
    assert top_4.search.max_concepts == 4 and top_4.methods.label.explainer == "top_k"
    methods = load("resnet50", "preconditioned-top_5").methods
    assert {name: (m.explainer, m.no_longer_than) for name, m in methods.items()} == {
        "label": ("top_k", ""), "label_preconditioned": ("preconditioned", "label"),
        "siglip": ("top_k", ""), "siglip_preconditioned": ("preconditioned", "siglip"),
    }  # fmt: skip
    assert load("vit_l32", "clip_explainer-dry").methods.clip.weights == "generated"
    assert load("vit_l32", "class_names-dry").concepts.sets[0] == "classes"
    with pytest.raises(
        ValueError,
        match="unknown variant 'residual'; expected one or more of layers, conv1, .*dry, joined",
    ):
        load("resnet50", "dry-residual")
    with pytest.raises(ValueError, match="unknown variant ''"):
        load("resnet50", "dry-")


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("resnet50", "top_4-top_5", "'top_4' and 'top_5' contradict each other; expected one of"),
        ("vit_l32", "common_words-dry-class_names", "'common_words' and 'class_names' contradict"),
        ("vit_b16", "residual-block10", "'residual' and 'block10' contradict each other"),
        ("resnet50", "dry-dry", "variant 'dry' is named twice; expected each once"),
        (
            "quickstart",
            "dry",
            "unknown variant 'dry'; expected one or more of baselines, sae, joined",
        ),
        ("resnet20_cifar10", "dri", "unknown variant 'dri'; expected one or more of baselines, dr"),
    ],
)
def test_variants_that_contradict_each_other_are_refused(name, variant, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(name, variant)


def test_the_small_networks_run_is_rehearsed_too():
    config = read_config(load("resnet20_cifar10", "dry").to_dict())
    assert config.target.weights == "generated" and generated_count(config.data.source) == 40


@pytest.mark.parametrize("name", OWN)
def test_the_papers_other_methods_run_beside_its_own(name):
    methods = read_config(load(name, "baselines-milan-netdissect").to_dict()).methods
    found = {key: (m.explainer, m.concepts, m.no_longer_than) for key, m in methods.items()}
    assert found == {
        "label": ("greedy", "label", ""),
        "siglip": ("greedy", "siglip", ""),
        "label_preconditioned": ("preconditioned", "label", "label"),
        "siglip_preconditioned": ("preconditioned", "siglip", "siglip"),
        "clip_dissect": ("clip_dissect", "siglip", ""),
        "invert": ("invert", "label", ""),
        "milan": ("published", "label", ""),
        "netdissect": ("published", "label", ""),
    }
    assert methods["clip_dissect"].encoder.model == "clip_vit_b_16"


def test_the_small_runs_have_the_other_methods_that_they_can():
    quick = load("quickstart", "baselines").methods
    explainers = {"greedy", "preconditioned", "clip_dissect", "network_dissection", "invert"}
    assert {method.explainer for method in quick.values()} == explainers
    assert "invert" in load("resnet20_cifar10", "baselines").methods
