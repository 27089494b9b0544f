"""Writes jaxle/models/class_names.py: the classes of the zoo's classifiers, in output order.

    python tools/class_names.py

ImageNet's and Places365's names as tensorflow-datasets carries them
(datasets/imagenet2012/labels.txt: synset ids in alphabetical order, as torchvision numbers them;
image_classification/categories_places365.txt); CIFAR-100's from jaxle/concepts/data/cifar100.tsv.
"""

import textwrap
from pathlib import Path

import tensorflow_datasets

ROOT = Path(__file__).resolve().parent.parent
TFDS = Path(tensorflow_datasets.__file__).parent

HEAD = '''"""The classes of the zoo's classifiers, in the order of their outputs.

They are the names by which data sources call them (tensorflow-datasets, an ImageNet folder), so
that accuracy can be computed. Written by tools/class_names.py.
"""
'''


def main() -> None:
    cifar100 = (ROOT / "jaxle/concepts/data/cifar100.tsv").read_text().splitlines()
    names = {
        "IMAGENET": (TFDS / "datasets/imagenet2012/labels.txt").read_text().split(),
        "PLACES365": (TFDS / "image_classification/categories_places365.txt").read_text().split(),
        "CIFAR100": [line.split("\t")[0] for line in cifar100],
    }
    counts = {name: len(held) for name, held in names.items()}
    assert counts == {"IMAGENET": 1000, "PLACES365": 365, "CIFAR100": 100}
    assert names["IMAGENET"] == sorted(names["IMAGENET"])
    parts = [
        HEAD,
        'CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())\n',
    ]
    for name, held in names.items():
        lines = textwrap.indent(textwrap.fill(" ".join(held), 96, break_on_hyphens=False), "    ")
        parts.append(f'{name} = tuple(\n    """\n{lines}\n""".split()\n)\n')
    (ROOT / "jaxle/models/class_names.py").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
