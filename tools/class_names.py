"""Write jaxle/models/class_names.py: the classes of the zoo's classifiers, in the order of their outputs.

    python tools/class_names.py

ImageNet's and Places365's names as tensorflow-datasets carries them (datasets/imagenet2012/labels.txt: synset ids in alphabetical order, as
torchvision numbers them; image_classification/categories_places365.txt); CIFAR-100's from jaxle/concepts/data/cifar100.tsv.
"""

import importlib.util
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TFDS = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent

HEAD = '''"""The classes of the zoo's classifiers, in the order of their outputs; written by tools/class_names.py.

They are the names by which data sources call them (tensorflow-datasets, an ImageNet folder), so that accuracy can be told.
"""
'''


def main() -> None:
    names = {
        "IMAGENET": (TFDS / "datasets/imagenet2012/labels.txt").read_text().split(),
        "PLACES365": (TFDS / "image_classification/categories_places365.txt").read_text().split(),
        "CIFAR100": [
            line.split("\t")[0]
            for line in (ROOT / "jaxle/concepts/data/cifar100.tsv").read_text().splitlines()
        ],
    }
    assert {name: len(held) for name, held in names.items()} == {
        "IMAGENET": 1000,
        "PLACES365": 365,
        "CIFAR100": 100,
    }
    assert names["IMAGENET"] == sorted(names["IMAGENET"])
    parts = [
        HEAD,
        'CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())\n',
    ]
    for name, held in names.items():
        lines = textwrap.fill(
            " ".join(held),
            136,
            initial_indent="    ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
        parts.append(f'{name} = tuple("""\n{lines}\n""".split())\n')
    (ROOT / "jaxle/models/class_names.py").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
