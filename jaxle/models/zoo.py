"""The zoo: one visible table from a model's name to its architecture, weights, preprocessing, class
names and taps."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jaxle.arrays import checks_input
from jaxle.compilation import use_compilation_cache
from jaxle.images import Preprocess
from jaxle.models import cifar_resnet, class_names, clip, resnet, siglip, vgg, vit
from jaxle.models.checkpoints import Tensors, flatten, read, tensors_hash, weights_hash
from jaxle.models.declared import Declared, config_json
from jaxle.models.download import locate
from jaxle.models.entry import DTYPES, Entry, Making, Text, cast, make, own_entry, preprocess_of
from jaxle.models.finite import check_variables
from jaxle.models.model import Model
from jaxle.models.placement import place
from jaxle.models.tokenizers import beside, load_tokenizer
from jaxle.models.two_tower import TwoTower
from jaxle.models.weights import convert, shapes
from jaxle.scenes import CLASS_NAMES as SCENES_CLASSES

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TORCHVISION_PREPROCESS = Preprocess(
    "shorter_side", 224, crop=224 / 256, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
)
_CIFAR10_PREPROCESS = Preprocess("none", 32, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
_CIFAR100_PREPROCESS = Preprocess(
    "none", 32, mean=(0.5070, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2761)
)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SCENES = Path(__file__).parent.parent / "scenes" / "checkpoints"
_AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
_CHENYAOFO = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/"
# File names carry the first digits of their sha256; these are the IMAGENET1K_V1.
_TORCHVISION = "https://download.pytorch.org/models/"
_PLACES = "http://places2.csail.mit.edu/models_places365/"
_BIG_VISION = "https://storage.googleapis.com/big_vision/"


def _cifar10(config: cifar_resnet.CifarResNetConfig, file: str, parameters: int) -> Entry:
    def adapt(declared: Declared) -> Entry:
        adapted = cifar_resnet.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, class_names.CIFAR10)
        return _cifar10(adapted, file, parameters)._replace(class_names=names)

    return Entry(
        module=partial(cifar_resnet.CifarResNet, config),
        preprocess=_CIFAR10_PREPROCESS,
        weights=_AKAMASTER + file,
        parameters=parameters,
        class_names=class_names.CIFAR10,
        layouts=cifar_resnet.LAYOUTS,
        adapt=adapt,
    )


def _resnet(config: resnet.ResNetConfig, weights: str, parameters: int) -> Entry:
    known = class_names.PLACES365 if config.num_classes == 365 else class_names.IMAGENET

    def adapt(declared: Declared) -> Entry:
        adapted = resnet.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, known)
        return _resnet(adapted, weights, parameters)._replace(class_names=names)

    return Entry(
        module=partial(resnet.ResNet, config),
        preprocess=_TORCHVISION_PREPROCESS,
        weights=weights,
        parameters=parameters,
        class_names=known,
        layouts=resnet.LAYOUTS,
        aliases=resnet.ALIASES,
        adapt=adapt,
    )


def _vgg(config: vgg.VGGConfig, file: str, parameters: int) -> Entry:
    pooled = bool(config.pooled)  # the ImageNet networks; those for CIFAR-100 have no 7×7 pool
    known = class_names.IMAGENET if pooled else class_names.CIFAR100

    def adapt(declared: Declared) -> Entry:
        adapted = vgg.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, known)
        return _vgg(adapted, file, parameters)._replace(class_names=names)

    return Entry(
        module=partial(vgg.VGG, config),
        preprocess=_TORCHVISION_PREPROCESS if pooled else _CIFAR100_PREPROCESS,
        weights=(_TORCHVISION if pooled else _CHENYAOFO) + file,
        parameters=parameters,
        class_names=known,
        layouts=vgg.layouts(config),
        aliases=vgg.aliases(config),
        adapt=adapt,
    )


def _vit(
    config: vit.ViTConfig,
    weights: str,
    parameters: int,
    preprocess: Preprocess = _TORCHVISION_PREPROCESS,
) -> Entry:
    def adapt(declared: Declared) -> Entry:
        adapted = vit.adapted(config, declared)
        size = declared.size("params/pos_embedding", config.patch, preprocess.size)
        resized = dataclasses.replace(preprocess, size=size)
        names = declared.class_names(adapted.num_classes, class_names.IMAGENET)
        return _vit(adapted, weights, parameters, resized)._replace(class_names=names)

    return Entry(
        module=partial(vit.ViT, config),
        preprocess=preprocess,
        weights=weights,
        parameters=parameters,
        class_names=class_names.IMAGENET,
        layouts=vit.layouts(config),
        aliases=vit.aliases(config),
        adapt=adapt,
    )


# Commits of hub repositories; those not listed are taken as they are today.
_REVISIONS = {
    "google/siglip-base-patch16-224": "7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
    "google/siglip-base-patch16-256": "b078df89e446d623010d890864d4207fe6399f61",
    "google/siglip-base-patch16-384": "41aec1c83b32e0a6fca20ad88ba058aa5b5ea394",
    "google/siglip-base-patch16-512": "753a949581523b60257d93e18391e8c27f72eb22",
    "google/siglip-base-patch16-256-multilingual": "8952a4eafcde3cb7ab46b1dd629b33f8784ca9c6",
    "google/siglip-large-patch16-256": "d0da9f876e7d66b4e250cd2450c3ba2ce735e447",
    "google/siglip-large-patch16-384": "ce005573a40965dfd21fd937fbdeeebf2439fc35",
    "google/siglip-so400m-patch14-224": "d04cf29fca7b6374f74d8bea1969314492266b5e",
    "google/siglip-so400m-patch14-384": "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
    "google/siglip2-base-patch16-224": "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    "google/siglip2-so400m-patch14-384": "e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
    "google/siglip2-base-patch32-256": "94dffa8cb1179de3e03f091dbc3917e5d5a9ae84",
    "google/siglip2-base-patch16-256": "3f9f96cb90da5dbc758b01813f2f6f1aee24c1ab",
    "google/siglip2-base-patch16-384": "f775b65a79762255128c981547af89addcfe0f88",
    "google/siglip2-base-patch16-512": "a89f5c5093f902bf39d3cd4d81d2c09867f0724b",
    "google/siglip2-large-patch16-256": "787800c8990e6f058423089178e718139608408c",
    "google/siglip2-large-patch16-384": "1b426889ea62b5a72bf9839009a1b184bfc9c178",
    "google/siglip2-large-patch16-512": "49488218e80259885f3be61d7a9455faf833b7a8",
    "google/siglip2-so400m-patch14-224": "78e403963a4f6a3640d07803284752326fdf4edf",
    "google/siglip2-so400m-patch16-256": "e8708ab72d125807e45b36fb7d4e0aacbb59f379",
    "google/siglip2-so400m-patch16-384": "dd658faac399427308559e2c3ac1e99cbe43845d",
    "google/siglip2-so400m-patch16-512": "ceea1cba8130d8271436da4828633198c176a775",
    "google/vit-base-patch16-224": "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3",
    "openai/clip-vit-base-patch32": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    "openai/clip-vit-base-patch16": "57c216476eefef5ab752ec549e440a49ae4ae5f3",
    "openai/clip-vit-large-patch14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "openai/clip-vit-large-patch14-336": "ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
}


def _pinned(hub: str) -> str:
    return f"{hub}@{_REVISIONS[hub]}" if hub in _REVISIONS else hub


def _siglip(config: siglip.SigLIPConfig, size: int, file: str, parameters: int) -> Entry:
    """Weights and resize filter as transformers converted them from big_vision's files
    (convert_siglip_to_hf.py)."""
    hub, style = _pinned(f"google/{file}"), file.split("-")[0]
    interpolation = "bicubic" if style == "siglip" else "bilinear"

    def adapt(declared: Declared) -> Entry:
        return _siglip(siglip.adapted(config, declared, size), size, file, parameters)

    return Entry(
        module=partial(siglip.SigLIP, config),
        preprocess=Preprocess("squash", size, interpolation=interpolation),
        weights=hub,
        parameters=parameters,
        layouts=siglip.layouts(config),
        aliases=siglip.aliases(config),
        text=Text(hub, style, config.text.length),
        adapt=adapt,
    )


def _scenes_siglip(image: vit.ViTConfig, text: siglip.TextConfig, file: str, n: int) -> Entry:
    """One of the two that jaxle carries; tools/train_siglip.py made it."""
    config = siglip.SigLIPConfig(
        dataclasses.replace(image, patch=16, pool="map", activation="gelu_tanh", num_classes=None),
        dataclasses.replace(text, vocabulary=1024, length=20),
    )
    return Entry(
        module=partial(siglip.SigLIP, config),
        preprocess=Preprocess("none", 64),
        weights=_SCENES / file,
        parameters=n,
        layouts=siglip.layouts(config),
        aliases=siglip.aliases(config),
        text=Text(str(_SCENES / "spiece.model"), "siglip", config.text.length),
    )


def _clip(config: clip.CLIPConfig, size: int, repository: str, parameters: int) -> Entry:
    hub = _pinned(repository)

    def adapt(declared: Declared) -> Entry:
        return _clip(clip.adapted(config, declared, size), size, repository, parameters)

    return Entry(
        module=partial(clip.CLIP, config),
        preprocess=Preprocess(
            "shorter_side", size, interpolation="bicubic", mean=_CLIP_MEAN, std=_CLIP_STD
        ),
        weights=hub,
        parameters=parameters,
        layouts=clip.layouts(config),
        aliases=clip.aliases(config),
        text=Text(hub, "clip", config.text.length),
        adapt=adapt,
    )


ZOO: dict[str, Entry] = {
    "scenes_resnet": Entry(
        module=partial(cifar_resnet.CifarResNet, cifar_resnet.scenes_resnet(len(SCENES_CLASSES))),
        layouts=cifar_resnet.LAYOUTS,
        weights=_SCENES / "target.npz",
        preprocess=Preprocess("none", 64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        class_names=SCENES_CLASSES,
        parameters=172_701,
    ),
    "scenes_siglip_s": _scenes_siglip(
        vit.ViTConfig(width=128, depth=3, mlp_dim=384, heads=4),
        siglip.TextConfig(width=64, depth=2, mlp_dim=256, heads=4),
        "siglip_s.npz",
        937_346,
    ),
    "scenes_siglip_m": _scenes_siglip(
        vit.ViTConfig(width=160, depth=4, mlp_dim=352, heads=5),
        siglip.TextConfig(width=80, depth=2, mlp_dim=256, heads=4),
        "siglip_m.npz",
        1_441_634,
    ),
    "resnet20_cifar10": _cifar10(cifar_resnet.resnet20(), "resnet20-12fca82f.th", 269_722),
    "resnet32_cifar10": _cifar10(cifar_resnet.resnet32(), "resnet32-d509ac18.th", 464_154),
    "resnet44_cifar10": _cifar10(cifar_resnet.resnet44(), "resnet44-014dd654.th", 658_586),
    "resnet56_cifar10": _cifar10(cifar_resnet.resnet56(), "resnet56-4bfd9763.th", 853_018),
    "resnet110_cifar10": _cifar10(cifar_resnet.resnet110(), "resnet110-1d1ed7c2.th", 1_727_962),
    "resnet18_imagenet": _resnet(
        resnet.resnet18(), _TORCHVISION + "resnet18-f37072fd.pth", 11_689_512
    ),
    "resnet34_imagenet": _resnet(
        resnet.resnet34(), _TORCHVISION + "resnet34-b627a593.pth", 21_797_672
    ),
    "resnet50_imagenet": _resnet(
        resnet.resnet50(), _TORCHVISION + "resnet50-0676ba61.pth", 25_557_032
    ),
    "resnet101_imagenet": _resnet(
        resnet.resnet101(), _TORCHVISION + "resnet101-63fe2227.pth", 44_549_160
    ),
    "resnet152_imagenet": _resnet(
        resnet.resnet152(), _TORCHVISION + "resnet152-394f9c45.pth", 60_192_808
    ),
    "resnet18_places365": _resnet(
        resnet.resnet18(365), _PLACES + "resnet18_places365.pth.tar", 11_363_757
    ),
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
    "vit_b_16_imagenet": _vit(
        vit.of_size("B", 16), _TORCHVISION + "vit_b_16-c867db91.pth", 86_567_656 - 768
    ),
    "vit_b_32_imagenet": _vit(
        vit.of_size("B", 32), _TORCHVISION + "vit_b_32-d86f8d99.pth", 88_224_232 - 768
    ),
    "vit_l_16_imagenet": _vit(
        vit.of_size("L", 16), _TORCHVISION + "vit_l_16-852ce7e3.pth", 304_326_632 - 1024
    ),
    "vit_l_32_imagenet": _vit(
        vit.of_size("L", 32), _TORCHVISION + "vit_l_32-c7638314.pth", 306_535_400 - 1024
    ),
    "vit_small_patch16_224": _vit(
        vit.of_size("S", 16),
        "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        22_050_664 - 384,
        Preprocess("shorter_side", 224, crop=0.9, interpolation="bicubic"),
    ),
    "vit_base_patch16_224": _vit(
        vit.of_size("B", 16, epsilon=1e-12),
        _pinned("google/vit-base-patch16-224"),
        86_567_656 - 768,
        Preprocess("squash", 224),
    ),
    "vit_s16_i1k": _vit(  # arXiv 2205.01580, 90 epochs
        vit.of_size(
            "S", 16, pool="gap", positions="sincos2d", activation="gelu_tanh", rep_size=True
        ),
        _BIG_VISION + "vit_s16_i1k_90ep.npz",
        22_122_472,
        Preprocess(
            "shorter_side", 224, crop=224 / 256
        ),  # its authors resized by area, which differs by little
    ),
    "siglip_b_16_224": _siglip(
        siglip.of_size("B", 16), 224, "siglip-base-patch16-224", 203_155_970
    ),
    "siglip_b_16_256": _siglip(
        siglip.of_size("B", 16), 256, "siglip-base-patch16-256", 203_202_050
    ),
    "siglip_b_16_384": _siglip(
        siglip.of_size("B", 16), 384, "siglip-base-patch16-384", 203_447_810
    ),
    "siglip_b_16_512": _siglip(
        siglip.of_size("B", 16), 512, "siglip-base-patch16-512", 203_791_874
    ),
    "siglip_l_16_256": _siglip(
        siglip.of_size("L", 16), 256, "siglip-large-patch16-256", 652_150_786
    ),
    "siglip_l_16_384": _siglip(
        siglip.of_size("L", 16), 384, "siglip-large-patch16-384", 652_478_466
    ),
    "siglip_so400m_14_224": _siglip(
        siglip.of_size("So400m", 14, length=16), 224, "siglip-so400m-patch14-224", 877_360_306
    ),
    "siglip_so400m_14_384": _siglip(
        siglip.of_size("So400m", 14), 384, "siglip-so400m-patch14-384", 877_960_498
    ),
    "siglip_b_16_256_i18n": _siglip(
        siglip.of_size("B", 16, 250_000), 256, "siglip-base-patch16-256-multilingual", 370_626_050
    ),
    "siglip2_b_32_256": _siglip(
        siglip.of_size("B", 32, 256_000), 256, "siglip2-base-patch32-256", 376_856_066
    ),
    "siglip2_b_16_224": _siglip(
        siglip.of_size("B", 16, 256_000), 224, "siglip2-base-patch16-224", 375_187_970
    ),
    "siglip2_b_16_256": _siglip(
        siglip.of_size("B", 16, 256_000), 256, "siglip2-base-patch16-256", 375_234_050
    ),
    "siglip2_b_16_384": _siglip(
        siglip.of_size("B", 16, 256_000), 384, "siglip2-base-patch16-384", 375_479_810
    ),
    "siglip2_b_16_512": _siglip(
        siglip.of_size("B", 16, 256_000), 512, "siglip2-base-patch16-512", 375_823_874
    ),
    "siglip2_l_16_256": _siglip(
        siglip.of_size("L", 16, 256_000), 256, "siglip2-large-patch16-256", 881_526_786
    ),
    "siglip2_l_16_384": _siglip(
        siglip.of_size("L", 16, 256_000), 384, "siglip2-large-patch16-384", 881_854_466
    ),
    "siglip2_l_16_512": _siglip(
        siglip.of_size("L", 16, 256_000), 512, "siglip2-large-patch16-512", 882_313_218
    ),
    "siglip2_so400m_14_224": _siglip(
        siglip.of_size("So400m", 14, 256_000), 224, "siglip2-so400m-patch14-224", 1_135_463_602
    ),
    "siglip2_so400m_14_384": _siglip(
        siglip.of_size("So400m", 14, 256_000), 384, "siglip2-so400m-patch14-384", 1_136_008_498
    ),
    "siglip2_so400m_16_256": _siglip(
        siglip.of_size("So400m", 16, 256_000), 256, "siglip2-so400m-patch16-256", 1_135_670_962
    ),
    "siglip2_so400m_16_384": _siglip(
        siglip.of_size("So400m", 16, 256_000), 384, "siglip2-so400m-patch16-384", 1_136_039_602
    ),
    "siglip2_so400m_16_512": _siglip(
        siglip.of_size("So400m", 16, 256_000), 512, "siglip2-so400m-patch16-512", 1_136_555_698
    ),
    "clip_vit_b_32": _clip(clip.of_size("B", 32), 224, "openai/clip-vit-base-patch32", 151_277_313),
    "clip_vit_b_16": _clip(clip.of_size("B", 16), 224, "openai/clip-vit-base-patch16", 149_620_737),
    "clip_vit_l_14": _clip(
        clip.of_size("L", 14), 224, "openai/clip-vit-large-patch14", 427_616_513
    ),
    "clip_vit_l_14_336": _clip(
        clip.of_size("L", 14), 336, "openai/clip-vit-large-patch14-336", 427_944_193
    ),
}


@checks_input
def load_model(
    name: str,
    weights: str | Path | Mapping[str, Any] | None = None,
    *,
    random_init_seed: int | None = None,
    image_size: int | None = None,
    resample_positions: bool = False,
    dtype: str = "float32",
    mesh: Mesh | None = None,
    tokenizer: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    call: Mapping[str, Any] | None = None,
    preprocess: Preprocess | Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Model | TwoTower:
    """Returns a network that takes images: one of the zoo, or your own.

    Args:
      name: a key of `ZOO`, or the hub id of its weights ("openai/clip-vit-base-patch32"); or
        "package.module:name" of any importable Linen class, or of an `Entry` for one.
      weights: a file, a folder, a URL, a hub id ("org/name@revision") or a tree of variables; None
        takes the zoo's default. Of a network of the zoo, the number of classes and a vision
        transformer's image size are the checkpoint's, and so are the activation, epsilon and heads
        of a config.json beside it.
      random_init_seed: where given, weights are left aside and parameters drawn anew from this
        seed: the untrained control.
      image_size: pixels of the input where it is not the zoo's.
      resample_positions: fit position embeddings of a checkpoint of another resolution; otherwise
        such a checkpoint is an error.
      dtype: "float32", or "bfloat16" for parameters and arithmetic (batch statistics and outputs
        stay float32). How exactly a GPU or TPU multiplies float32 is JAX's setting
        `jax_default_matmul_precision`, which jaxle leaves as it is.
      mesh: puts variables on these devices, split over axis "model" where that divides, and batches
        over axis "data".
      tokenizer: two towers only: a file, folder or hub id in place of the one beside the weights,
        or else of the zoo's.
      arguments: your class's keyword arguments.
      call: further arguments of your module's `__call__`, such as {"train": False}.
      preprocess, class_names, aliases: in place of the zoo's; a network class of your own needs
        `preprocess`.

    Returns:
      Model; TwoTower for SigLIP and CLIP.

    Raises:
      ValueError: unknown name (the valid ones are listed), or weights that are absent, damaged, not
        finite or of another architecture (the mismatches are summarised).
      ConnectionError: weights that cannot be fetched.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(DTYPES)}")
    if isinstance(preprocess, Mapping):
        preprocess = preprocess_of(preprocess)
    name, weights = by_hub_id(name, weights)
    entry = find_entry(name, preprocess)
    if tokenizer is not None and entry.text is None:
        raise ValueError(f"model {name!r} has no text tower; leave `tokenizer` out")
    use_compilation_cache()

    def making(entry: Entry) -> Making:
        size = image_size or (preprocess or entry.preprocess).size
        return make(entry, name, size, dtype, arguments or {}, call or {})

    path = None
    if random_init_seed is not None:
        made, digest = making(entry), f"random_init:{random_init_seed}"
        variables = made.draw(random_init_seed)
        check_variables(name, variables)
    else:
        path, what, tensors, digest = _read(name, entry, weights)
        if entry.adapt is not None:
            found = shapes(tensors, making(entry).expected(), entry.layouts)
            asked = image_size is not None or resample_positions or preprocess is not None
            config = config_json(path) if path else {}
            entry = entry.adapt(Declared(what, found, config, asked))
        made = making(entry)
        variables = convert(
            tensors, made.expected(), entry.layouts, what, resample=resample_positions
        )
    model = Model(
        name,
        made.module,
        place(cast(variables, dtype), mesh),
        dataclasses.replace(preprocess or entry.preprocess, size=made.size),
        entry.class_names if class_names is None else tuple(class_names),
        entry.aliases if aliases is None else aliases,
        digest,
        made.call,
        mesh,
    )
    if (text := entry.text) is None:
        return model
    vocabulary = tokenizer or (path and beside(path, text.style)) or text.source
    return TwoTower(model, partial(load_tokenizer, vocabulary, text.style, text.length))


def by_hub_id(
    name: str, weights: str | Path | Mapping[str, Any] | None
) -> tuple[str, str | Path | Mapping[str, Any] | None]:
    """Returns a model's name in the zoo where it is the hub id of its weights; then, the weights
    that it means."""
    repository = name.partition("@")[0]
    for known, entry in ZOO.items():
        if str(entry.weights).partition("@")[0] == repository:
            return known, (name if weights is None and "@" in name else weights)
    return name, weights


def find_entry(name: str, preprocess: Preprocess | None) -> Entry:
    """Returns the model of a name, or your own. Raises ValueError as `load_model` does."""
    if ":" in name:
        return own_entry(name, preprocess)
    if name not in ZOO:
        near = difflib.get_close_matches(name, ZOO, n=3)
        hint = f" (nearest: {', '.join(near)})" if near else ""
        raise ValueError(
            f"unknown model {name!r}{hint}; valid models: {', '.join(ZOO)}; the hub id of one; "
            "or your own Linen class as 'package.module:Class'"
        )
    return ZOO[name]


def _read(
    name: str, entry: Entry, weights: str | Path | Mapping[str, Any] | None
) -> tuple[Path | None, str, Tensors, str]:
    """Where the weights lie, what an error calls them, their tensors and their hash."""
    weights = entry.weights if weights is None else weights
    if weights is None:
        raise ValueError(f"model {name!r} has no default weights: give a file, or random_init_seed")
    if isinstance(weights, Mapping):
        tensors = flatten(weights)
        return None, f"given as a tree for {name}", tensors, tensors_hash(tensors)
    path = locate(weights)
    return path, f"{path} for {name}", read(path), weights_hash(path)
