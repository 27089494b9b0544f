"""The zoo: one visible table from a model's name to its architecture, weights, preprocessing, class names and taps."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxle.images import Preprocess
from jaxle.models import cifar_resnet, resnet, vgg, vit
from jaxle.models.download import locate
from jaxle.models.model import Model
from jaxle.models.weights import Layout, convert, read, weights_hash
from jaxle.scenes import CLASS_NAMES as SCENES_CLASSES


class Entry(NamedTuple):
    """One model: `parameters` is the published count; weights: a file, a URL or a hub id; no class names where the data give them."""

    module: Callable[..., nn.Module]
    layouts: Mapping[str, Layout]
    weights: str | Path | None
    preprocess: Preprocess
    class_names: tuple[str, ...]
    parameters: int
    aliases: Mapping[str, str] = {}


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IMAGENET_COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_TORCHVISION_EYES = Preprocess("shorter_side", 224, crop=224 / 256, **_IMAGENET_COLOURS)
_SCENES = Path(__file__).parent.parent / "scenes" / "checkpoints"
_AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
_CHENYAOFO = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/"
_TORCHVISION = "https://download.pytorch.org/models/"  # file names carry the first digits of their sha256; these are the IMAGENET1K_V1
_PLACES = "http://places2.csail.mit.edu/models_places365/"
_BIG_VISION = "https://storage.googleapis.com/big_vision/"


def _cifar10(config: cifar_resnet.CifarResNetConfig, file: str, parameters: int) -> Entry:
    eyes = Preprocess("none", 32, **_IMAGENET_COLOURS)
    module = partial(cifar_resnet.CifarResNet, config)
    return Entry(module, cifar_resnet.LAYOUTS, _AKAMASTER + file, eyes, CIFAR10_CLASSES, parameters)


def _resnet(config: resnet.ResNetConfig, weights: str, parameters: int) -> Entry:
    return Entry(partial(resnet.ResNet, config), resnet.LAYOUTS, weights, _TORCHVISION_EYES, (), parameters, resnet.ALIASES)


def _vgg(config: vgg.VGGConfig, file: str, parameters: int) -> Entry:
    eyes, host = _TORCHVISION_EYES, _TORCHVISION
    if not config.pooled:
        eyes, host = Preprocess("none", 32, mean=(0.5070, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2761)), _CHENYAOFO
    return Entry(partial(vgg.VGG, config), vgg.layouts(config), host + file, eyes, (), parameters, vgg.aliases(config))


def _vit(config: vit.ViTConfig, weights: str, parameters: int, eyes: Preprocess = _TORCHVISION_EYES) -> Entry:
    return Entry(partial(vit.ViT, config), vit.layouts(config), weights, eyes, (), parameters, vit.aliases(config))


ZOO: dict[str, Entry] = {
    "scenes_resnet": Entry(
        module=partial(cifar_resnet.CifarResNet, cifar_resnet.scenes_resnet(len(SCENES_CLASSES))),
        layouts=cifar_resnet.LAYOUTS,
        weights=_SCENES / "target.npz",
        preprocess=Preprocess("none", 64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        class_names=SCENES_CLASSES,
        parameters=172_701,
    ),
    "resnet20_cifar10": _cifar10(cifar_resnet.resnet20(), "resnet20-12fca82f.th", 269_722),
    "resnet32_cifar10": _cifar10(cifar_resnet.resnet32(), "resnet32-d509ac18.th", 464_154),
    "resnet44_cifar10": _cifar10(cifar_resnet.resnet44(), "resnet44-014dd654.th", 658_586),
    "resnet56_cifar10": _cifar10(cifar_resnet.resnet56(), "resnet56-4bfd9763.th", 853_018),
    "resnet110_cifar10": _cifar10(cifar_resnet.resnet110(), "resnet110-1d1ed7c2.th", 1_727_962),
    "resnet18_imagenet": _resnet(resnet.resnet18(), _TORCHVISION + "resnet18-f37072fd.pth", 11_689_512),
    "resnet34_imagenet": _resnet(resnet.resnet34(), _TORCHVISION + "resnet34-b627a593.pth", 21_797_672),
    "resnet50_imagenet": _resnet(resnet.resnet50(), _TORCHVISION + "resnet50-0676ba61.pth", 25_557_032),
    "resnet101_imagenet": _resnet(resnet.resnet101(), _TORCHVISION + "resnet101-63fe2227.pth", 44_549_160),
    "resnet152_imagenet": _resnet(resnet.resnet152(), _TORCHVISION + "resnet152-394f9c45.pth", 60_192_808),
    "resnet18_places365": _resnet(resnet.resnet18(365), _PLACES + "resnet18_places365.pth.tar", 11_363_757),
    "vgg11_imagenet": _vgg(vgg.imagenet(11, False), "vgg11-8a719046.pth", 132_863_336),
    "vgg13_imagenet": _vgg(vgg.imagenet(13, False), "vgg13-19584684.pth", 133_047_848),
    "vgg16_imagenet": _vgg(vgg.imagenet(16, False), "vgg16-397923af.pth", 138_357_544),
    "vgg19_imagenet": _vgg(vgg.imagenet(19, False), "vgg19-dcbb9e9d.pth", 143_667_240),
    "vgg11_bn_imagenet": _vgg(vgg.imagenet(11, True), "vgg11_bn-6002323d.pth", 132_868_840),
    "vgg13_bn_imagenet": _vgg(vgg.imagenet(13, True), "vgg13_bn-abd245e5.pth", 133_053_736),
    "vgg16_bn_imagenet": _vgg(vgg.imagenet(16, True), "vgg16_bn-6c64b313.pth", 138_365_992),
    "vgg19_bn_imagenet": _vgg(vgg.imagenet(19, True), "vgg19_bn-c79401a0.pth", 143_678_248),
    "vgg11_bn_cifar100": _vgg(vgg.cifar(11), "vgg/cifar100_vgg11_bn-57d0759e.pt", 9_802_596),
    "vgg13_bn_cifar100": _vgg(vgg.cifar(13), "vgg/cifar100_vgg13_bn-5ebe5778.pt", 9_987_492),
    "vgg16_bn_cifar100": _vgg(vgg.cifar(16), "vgg/cifar100_vgg16_bn-7d8c4031.pt", 15_299_748),
    "vgg19_bn_cifar100": _vgg(vgg.cifar(19), "vgg/cifar100_vgg19_bn-b98f7bd7.pt", 20_612_004),
    # the class token's own position is added to the token (models/vit.py), hence one width less
    "vit_b_16_imagenet": _vit(vit.of_size("B", 16), _TORCHVISION + "vit_b_16-c867db91.pth", 86_567_656 - 768),
    "vit_b_32_imagenet": _vit(vit.of_size("B", 32), _TORCHVISION + "vit_b_32-d86f8d99.pth", 88_224_232 - 768),
    "vit_l_16_imagenet": _vit(vit.of_size("L", 16), _TORCHVISION + "vit_l_16-852ce7e3.pth", 304_326_632 - 1024),
    "vit_l_32_imagenet": _vit(vit.of_size("L", 32), _TORCHVISION + "vit_l_32-c7638314.pth", 306_535_400 - 1024),
    "vit_small_patch16_224": _vit(
        vit.of_size("S", 16), "timm/vit_small_patch16_224.augreg_in21k_ft_in1k", 22_050_664 - 384,
        Preprocess("shorter_side", 224, crop=0.9, interpolation="bicubic"),
    ),
    "vit_base_patch16_224": _vit(
        vit.of_size("B", 16, epsilon=1e-12), "google/vit-base-patch16-224", 86_567_656 - 768, Preprocess("squash", 224),
    ),
    "vit_s16_i1k": _vit(  # arXiv 2205.01580, 90 epochs
        vit.of_size("S", 16, pool="gap", positions="sincos2d", activation="gelu_tanh", rep_size=True),
        _BIG_VISION + "vit_s16_i1k_90ep.npz", 22_122_472,
        Preprocess("shorter_side", 224, crop=224 / 256),  # its authors resized by area, which differs by little
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
        variables = _draw(module, key, images.shape)
        digest = f"random_init:{random_init_seed}"
    else:
        path = locate(entry.weights if weights is None else weights)
        shapes = jax.eval_shape(module.init, jax.random.key(0), images)
        variables = jax.tree.map(jnp.asarray, convert(read(path), shapes, entry.layouts, f"{path} for {name}"))
        digest = weights_hash(path)
    return Model(name, module, variables, entry.preprocess, entry.class_names, entry.aliases, digest)


@partial(jax.jit, static_argnums=(0, 2))
def _draw(module: nn.Module, key: jax.Array, shape: tuple[int, ...]) -> dict:
    return module.init(key, jnp.zeros(shape, jnp.float32))
