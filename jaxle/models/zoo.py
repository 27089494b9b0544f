"""The zoo: one visible table from a model's name to its architecture, weights, preprocessing, class names and taps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxle.images import Preprocess
from jaxle.models import cifar_resnet
from jaxle.models.download import locate
from jaxle.models.model import Model
from jaxle.models.weights import Layout, convert, read, weights_hash
from jaxle.scenes import CLASS_NAMES as SCENES_CLASSES


class Entry(NamedTuple):
    """One model: `parameters` is the published count (batch statistics not counted); weights may be a file, a URL or a hub id."""

    module: Callable[[], nn.Module]
    layouts: Mapping[str, Layout]
    weights: str | Path | None
    preprocess: Preprocess
    class_names: tuple[str, ...]
    parameters: int
    aliases: Mapping[str, str] = {}


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGENET_COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_SCENES = Path(__file__).parent.parent / "scenes" / "checkpoints"
_AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"


def _cifar10(config: Callable[..., cifar_resnet.CifarResNetConfig], file: str, parameters: int) -> Entry:
    return Entry(
        module=lambda: cifar_resnet.CifarResNet(config()),
        layouts=cifar_resnet.LAYOUTS,
        weights=_AKAMASTER + file,
        preprocess=Preprocess(resize="none", size=32, **_IMAGENET_COLOURS),
        class_names=CIFAR10_CLASSES,
        parameters=parameters,
    )


ZOO: dict[str, Entry] = {
    "resnet20_cifar10": _cifar10(cifar_resnet.resnet20, "resnet20-12fca82f.th", 269_722),
    "resnet32_cifar10": _cifar10(cifar_resnet.resnet32, "resnet32-d509ac18.th", 464_154),
    "resnet44_cifar10": _cifar10(cifar_resnet.resnet44, "resnet44-014dd654.th", 658_586),
    "resnet56_cifar10": _cifar10(cifar_resnet.resnet56, "resnet56-4bfd9763.th", 853_018),
    "resnet110_cifar10": _cifar10(cifar_resnet.resnet110, "resnet110-1d1ed7c2.th", 1_727_962),
    "scenes_resnet": Entry(
        module=lambda: cifar_resnet.CifarResNet(cifar_resnet.scenes_resnet(len(SCENES_CLASSES))),
        layouts=cifar_resnet.LAYOUTS,
        weights=_SCENES / "target.npz",
        preprocess=Preprocess(resize="none", size=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        class_names=SCENES_CLASSES,
        parameters=172_701,
    ),
}


def load_model(name: str, weights: str | Path | None = None, *, random_init_seed: int | None = None) -> Model:
    """Use it to get a network that takes pictures.

    Args:
      name: a key of `ZOO`.
      weights: a file, a URL or a hub id ("org/name@revision"); None takes the zoo's default.
      random_init_seed: where given, weights are left aside and parameters drawn anew from this seed: the untrained control.

    Returns:
      Model.

    Raises:
      ValueError: unknown name (the valid ones are listed), or weights that are absent, damaged or of another architecture (all mismatches
        are listed). ConnectionError: weights that cannot be fetched.
    """
    if name not in ZOO:
        raise ValueError(f"unknown model {name!r}; valid models: {', '.join(ZOO)}")
    entry = ZOO[name]
    module, size = entry.module(), entry.preprocess.size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    if random_init_seed is not None:
        key = jax.random.key(random_init_seed, impl="rbg")  # threefry takes five times as long to compile
        variables = jax.jit(lambda key: module.init(key, jnp.zeros(images.shape, images.dtype)))(key)
        digest = f"random_init:{random_init_seed}"
    else:
        path = locate(entry.weights if weights is None else weights)
        shapes = jax.eval_shape(module.init, jax.random.key(0), images)
        variables = jax.tree.map(jnp.asarray, convert(read(path), shapes, entry.layouts, f"{path} for {name}"))
        digest = weights_hash(path)
    return Model(name, module, variables, entry.preprocess, entry.class_names, entry.aliases, digest)
