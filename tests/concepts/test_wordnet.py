import collections
import gzip
from importlib.resources import files

import numpy as np
import pytest

from jaxle.concepts import wordnet
from jaxle.concepts.labels import LabelConcepts


@pytest.fixture(scope="module")
def imagenet():
    return wordnet.describe(wordnet.imagenet())


def test_classes_of_imagenet_are_in_the_order_of_its_labels_and_readable(imagenet):
    ids = wordnet.imagenet()
    assert len(ids) == 1000 and list(ids) == sorted(ids)
    names = imagenet.class_names
    assert (names[0], names[1], names[207], names[281], names[340], names[999]) == (
        *("tench", "goldfish", "golden retriever", "tabby", "zebra", "toilet tissue"),
    )
    assert len(set(names)) == 1000 and not any("_" in name for name in names)
    assert [names[134], names[517], names[638], names[639]] == [
        *(
            "crane (wading bird)",
            "crane (lifting device)",
            "maillot (tights)",
            "maillot (swimsuit)",
        ),
    ]


def test_ids_before_a_name_are_ids(imagenet):
    named = [f"{synset}_any-name" for synset in wordnet.imagenet()]
    assert wordnet.describe(named) == imagenet
    assert wordnet.synsets(["n01443537_goldfish", "n02099601"]) == ("n01443537", "n02099601")
    with pytest.raises(ValueError, match="class names repeat"):
        wordnet.synsets(["n01443537_goldfish", "n01443537"])


def above(described, name):
    return [superclass for superclass, members in described.superclasses.items() if name in members]


def test_spot_checks(imagenet):
    assert above(imagenet, "golden retriever") == [
        *(
            "retriever",
            "sporting dog",
            "hunting dog",
            "dog",
            "canine",
            "carnivore",
            "placental",
            "mammal",
            "vertebrate",
        ),
        *("domestic animal", "animal", "organism", "whole", "object", "physical entity"),
    ]
    assert {"big cat", "feline", "carnivore"} <= set(above(imagenet, "tiger"))
    assert {"string", "stringed instrument", "musical instrument"} & set(
        above(imagenet, "acoustic guitar")
    )
    assert {"edible fruit", "produce"} <= set(above(imagenet, "strawberry"))
    assert "motor vehicle" in str(above(imagenet, "fire engine")) and "dog" not in above(
        imagenet, "timber wolf"
    )


def test_the_rules_of_the_method_hold(imagenet):
    sets = [frozenset(members) for members in imagenet.superclasses.values()]
    assert all(1 < len(members) < 1000 for members in sets)
    assert len(set(sets)) == len(sets) == 395
    why = collections.Counter(
        reason.split(",")[0].split(" as ")[0] for reason in imagenet.dropped.values()
    )
    assert why == {
        "it has a single class": 388,
        "it has the same classes": 76,
        "it has all classes": 1,
    }
    assert not set(imagenet.superclasses) & set(imagenet.class_names)


def test_merging_synsets_of_one_name_gives_the_references_400():
    """The paper's code keys hypernyms by first lemma; done so, and with the root, its published
    number comes out."""
    graph, members = wordnet._graph(), collections.defaultdict(set)
    for own in wordnet.imagenet():
        for synset in wordnet._ancestors(own) - {own}:
            members[graph[synset][0]].add(own)
    assert len({frozenset(classes) for classes in members.values() if len(classes) > 1}) == 400


def test_members_are_every_class_below_by_an_independent_walk(imagenet):
    packed = files(wordnet.__package__).joinpath("data/wordnet_nouns.tsv.gz").read_bytes()
    rows = [line.split("\t") for line in gzip.decompress(packed).decode().splitlines()]
    below = collections.defaultdict(list)
    for synset, _, hypernyms in rows:
        for hypernym in hypernyms.split():
            below[hypernym].append(synset)
    dog = next(synset for synset, name, _ in rows if name == "dog" and len(below[synset]) > 10)
    found, todo = set(), [dog]
    while todo:
        synset = todo.pop()
        found.add(synset)
        todo += below[synset]
    names = dict(zip(wordnet.imagenet(), imagenet.class_names, strict=True))
    assert set(imagenet.superclasses["dog"]) == {
        names[synset] for synset in found if synset in names
    }
    assert len(imagenet.superclasses["dog"]) == 118


def test_a_subset_drops_what_it_makes_single_and_follows_its_own_order():
    ids = (
        "n02123045",
        "n02099601",
        "n02099712",
        "n02085620",
    )  # tabby, golden and Labrador retriever, Chihuahua
    described = wordnet.describe(ids)
    assert described.class_names == ("tabby", "golden retriever", "Labrador retriever", "Chihuahua")
    assert described.superclasses == {
        "retriever": ("golden retriever", "Labrador retriever"),
        "dog": ("golden retriever", "Labrador retriever", "Chihuahua"),
    }


def test_a_class_above_another_class_belongs_to_its_own_superclass():
    described = wordnet.describe(
        ("n02084071", "n02099601", "n02123045")
    )  # dog, golden retriever, tabby
    assert described.superclasses == {"dog (canine)": ("dog", "golden retriever")}


def test_they_are_columns_of_the_label_matrix(imagenet):
    labels = np.arange(1000)
    made = LabelConcepts.make(labels, imagenet.class_names, imagenet.superclasses)
    assert len(made.concepts) == 1395 and made.dropped == {}
    tile = made.rows(np.array([207]))
    assert {made.concepts[j] for j in np.flatnonzero(tile[0])} == {
        "golden retriever",
        *above(imagenet, "golden retriever"),
    }


def test_cifar_by_wordnet_and_by_its_coarse_labels():
    fine = tuple(wordnet._classes("cifar100"))
    described = wordnet.describe([name.replace(" ", "_") for name in fine])
    assert described.class_names == fine and len(fine) == 100
    assert described.superclasses["fish"] == ("aquarium fish", "flatfish", "ray", "shark", "trout")
    assert described.superclasses["tree"] == (
        "maple tree",
        "oak tree",
        "palm tree",
        "pine tree",
        "willow tree",
    )
    coarse = wordnet.coarse(fine)
    assert len(coarse) == 19 and sorted(
        name for members in coarse.values() for name in members
    ) == sorted(fine)
    assert len(coarse["vehicles"]) == 10 and coarse["fish"] == described.superclasses["fish"]
    ten = wordnet.describe(tuple(wordnet._classes("cifar10")))
    assert ten.superclasses["carnivore"] == ("cat", "dog")
    assert ten.superclasses["vehicle"] == ("airplane", "automobile", "ship", "truck")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("n99999999", "n02084071"), "no noun synsets of WordNet 3.0: n99999999"),
        (("n02084071", "n02084071"), "class names repeat"),
        (("circle", "square"), "class names are circle, square…; expected WordNet ids"),
        ((), "class names are none"),
    ],
)
def test_bad_classes_are_named(names, message):
    with pytest.raises(ValueError, match=message):
        wordnet.describe(names)


def test_classes_without_a_coarse_label_are_named():
    with pytest.raises(ValueError, match="classes without a coarse label: unicorn"):
        wordnet.coarse(("apple", "unicorn"))


def test_thousands_of_classes_that_are_above_one_another():
    ids = list(wordnet._graph())[:4000]
    described = wordnet.describe(ids)
    assert len({*described.class_names, *described.superclasses}) == 4000 + len(
        described.superclasses
    )
    assert len(described.superclasses) > 300


def test_the_licence_is_shipped():
    text = files("jaxle.concepts").joinpath("data/WORDNET_LICENSE").read_text()
    assert "Princeton University" in text and "WordNet 3.0" in text
