"""Class names are those of the data and of the concept tables, in the order of the outputs."""

from pathlib import Path

import jaxle.concepts
from jaxle.models import class_names, zoo

TABLES = Path(jaxle.concepts.__file__).parent / "data"


def test_they_are_the_concept_tables_names():
    column = {
        name: [line.split("\t")[0] for line in (TABLES / name).read_text().splitlines()]
        for name in ("cifar10.tsv", "cifar100.tsv")
    }
    assert (
        list(class_names.CIFAR10) == column["cifar10.tsv"]
        and list(class_names.CIFAR100) == column["cifar100.tsv"]
    )
    assert list(class_names.IMAGENET) == (TABLES / "imagenet.txt").read_text().split()


def test_known_outputs():
    """ImageNet's class 207 is the golden retriever, n02099601; Places365's 0 and 364 are the
    airfield and the zen garden."""
    assert class_names.IMAGENET[207] == "n02099601"
    assert (class_names.PLACES365[0], class_names.PLACES365[-1]) == ("airfield", "zen_garden")
    assert [
        len(getattr(class_names, name)) for name in ("IMAGENET", "PLACES365", "CIFAR10", "CIFAR100")
    ] == [1000, 365, 10, 100]


def test_every_classifier_has_them_and_dinos_which_are_none_have_not():
    for name, entry in zoo.ZOO.items():
        is_classifier = entry.text is None and not name.startswith("dino")
        assert bool(entry.class_names) == is_classifier, name
