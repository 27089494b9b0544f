"""How each family of networks becomes entries of the zoo: module, preprocessing, class names,
layouts, and the entry for a checkpoint that declares another number of classes or image size."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from jaxle.images import Preprocess
from jaxle.models import (
    cifar_resnet,
    class_names,
    clip,
    convnext,
    dinov2,
    dinov3,
    pe,
    resnet,
    siglip,
    vgg,
    vit,
)
from jaxle.models.declared import Declared
from jaxle.models.entry import Entry, Text
from jaxle.models.revisions import pinned
from jaxle.scenes import CLASS_NAMES as SCENES_CLASSES

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_TORCHVISION_PREPROCESS = Preprocess(
    "shorter_side", 224, crop=224 / 256, mean=_IMAGENET_MEAN, std=_IMAGENET_STD
)
_TIMM_PREPROCESS = dataclasses.replace(_TORCHVISION_PREPROCESS, interpolation="bicubic")
_CIFAR10_PREPROCESS = Preprocess("none", 32, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
_CIFAR100_PREPROCESS = Preprocess(
    "none", 32, mean=(0.5070, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2761)
)
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_SCENES = Path(__file__).parent.parent / "scenes" / "checkpoints"
_AKAMASTER = "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"


def scenes_resnet_entry(file: str, parameters: int) -> Entry:
    """Returns the classifier that jaxle carries; tools/train_scenes.py made it."""
    config = cifar_resnet.scenes_resnet(len(SCENES_CLASSES))
    return Entry(
        module=partial(cifar_resnet.CifarResNet, config),
        preprocess=Preprocess("none", 64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        weights=_SCENES / file,
        parameters=parameters,
        class_names=SCENES_CLASSES,
        layouts=cifar_resnet.LAYOUTS,
    )


def cifar10_entry(config: cifar_resnet.CifarResNetConfig, file: str, parameters: int) -> Entry:
    """Returns a CIFAR ResNet whose weights are one of akamaster's files."""

    def adapt(declared: Declared) -> Entry:
        adapted = cifar_resnet.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, class_names.CIFAR10)
        return cifar10_entry(adapted, file, parameters)._replace(class_names=names)

    return Entry(
        module=partial(cifar_resnet.CifarResNet, config),
        preprocess=_CIFAR10_PREPROCESS,
        weights=_AKAMASTER + file,
        parameters=parameters,
        class_names=class_names.CIFAR10,
        layouts=cifar_resnet.LAYOUTS,
        adapt=adapt,
    )


def resnet_entry(config: resnet.ResNetConfig, weights: str, parameters: int) -> Entry:
    """Returns a ResNet with torchvision's preprocessing."""

    known = class_names.PLACES365 if config.num_classes == 365 else class_names.IMAGENET

    def adapt(declared: Declared) -> Entry:
        adapted = resnet.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, known)
        return resnet_entry(adapted, weights, parameters)._replace(class_names=names)

    return Entry(
        module=partial(resnet.ResNet, config),
        preprocess=_TORCHVISION_PREPROCESS,
        weights=pinned(weights),
        parameters=parameters,
        class_names=known,
        layouts=resnet.LAYOUTS,
        aliases=resnet.ALIASES,
        adapt=adapt,
    )


def vgg_entry(config: vgg.VGGConfig, weights: str, parameters: int) -> Entry:
    """Returns a VGG with torchvision's preprocessing, or with pytorch-cifar-models'."""

    pooled = bool(config.pooled)  # the ImageNet networks; those for CIFAR-100 have no 7×7 pool
    known = class_names.IMAGENET if pooled else class_names.CIFAR100

    def adapt(declared: Declared) -> Entry:
        adapted = vgg.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, known)
        return vgg_entry(adapted, weights, parameters)._replace(class_names=names)

    return Entry(
        module=partial(vgg.VGG, config),
        preprocess=_TORCHVISION_PREPROCESS if pooled else _CIFAR100_PREPROCESS,
        weights=pinned(weights),
        parameters=parameters,
        class_names=known,
        layouts=vgg.layouts(config),
        aliases=vgg.aliases(config),
        adapt=adapt,
    )


def vit_entry(
    config: vit.ViTConfig,
    weights: str,
    parameters: int,
    preprocess: Preprocess = _TORCHVISION_PREPROCESS,
) -> Entry:
    """Returns a vision transformer; its image size is that of a checkpoint's positions."""

    def adapt(declared: Declared) -> Entry:
        adapted = vit.adapted(config, declared)
        size = declared.size("params/pos_embedding", config.patch, preprocess.size)
        resized = dataclasses.replace(preprocess, size=size)
        names = declared.class_names(adapted.num_classes, class_names.IMAGENET)
        return vit_entry(adapted, weights, parameters, resized)._replace(class_names=names)

    return Entry(
        module=partial(vit.ViT, config),
        preprocess=preprocess,
        weights=pinned(weights),
        parameters=parameters,
        class_names=class_names.IMAGENET,
        layouts=vit.layouts(config),
        aliases=vit.aliases(config),
        adapt=adapt,
    )


def siglip_entry(config: siglip.SigLIPConfig, size: int, file: str, parameters: int) -> Entry:
    """Returns SigLIP, weights and resize filter as transformers converted them from big_vision's
    files (convert_siglip_to_hf.py)."""
    hub, style = pinned(f"google/{file}"), file.split("-")[0]
    interpolation = "bicubic" if style == "siglip" else "bilinear"

    def adapt(declared: Declared) -> Entry:
        return siglip_entry(siglip.adapted(config, declared, size), size, file, parameters)

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


def scenes_siglip_entry(image: vit.ViTConfig, text: siglip.TextConfig, file: str, n: int) -> Entry:
    """Returns one of the two SigLIPs that jaxle carries; tools/train_siglip.py made it."""
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


def clip_entry(
    config: clip.CLIPConfig,
    size: int,
    repository: str,
    parameters: int,
    colours: tuple[tuple[float, float, float], ...] = (_CLIP_MEAN, _CLIP_STD),
) -> Entry:
    """Returns CLIP; `colours` are mean and deviation, of LAION's as in open_clip/pretrained.py."""
    hub = pinned(repository)

    def adapt(declared: Declared) -> Entry:
        adapted = clip.adapted(config, declared, size)
        mean, std = (
            tuple(declared.get(f"preprocess_cfg.{key}", known))
            for key, known in zip(("mean", "std"), colours, strict=True)
        )
        return clip_entry(adapted, size, repository, parameters, (mean, std))

    mean, std = colours
    return Entry(
        module=partial(clip.CLIP, config),
        preprocess=Preprocess("shorter_side", size, interpolation="bicubic", mean=mean, std=std),
        weights=hub,
        parameters=parameters,
        layouts=clip.layouts(config),
        aliases=clip.aliases(config),
        text=Text(hub, "clip", config.text.length),
        adapt=adapt,
    )


def convnext_entry(config: convnext.ConvNeXtConfig, weights: str, parameters: int) -> Entry:
    """Returns a ConvNeXt with timm's preprocessing."""

    def adapt(declared: Declared) -> Entry:
        adapted = convnext.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, class_names.IMAGENET)
        return convnext_entry(adapted, weights, parameters)._replace(class_names=names)

    return Entry(
        module=partial(convnext.ConvNeXt, config),
        preprocess=_TIMM_PREPROCESS,
        weights=pinned(weights),
        parameters=parameters,
        class_names=class_names.IMAGENET,
        layouts=convnext.LAYOUTS,
        aliases=convnext.aliases(config),
        adapt=adapt,
    )


def dinov2_entry(config: dinov2.DINOv2Config, weights: str, parameters: int) -> Entry:
    """Returns DINOv2, preprocessing as in the hub's preprocessor_config.json."""

    def adapt(declared: Declared) -> Entry:
        adapted = dinov2.adapted(config, declared)
        names = declared.class_names(adapted.num_classes, class_names.IMAGENET)
        return dinov2_entry(adapted, weights, parameters)._replace(class_names=names)

    return Entry(
        module=partial(dinov2.DINOv2, config),
        preprocess=_TIMM_PREPROCESS,
        weights=pinned(weights),
        parameters=parameters,
        layouts=dinov2.layouts(config),
        aliases=dinov2.aliases(config.depth),
        adapt=adapt,
    )


def dinov3_entry(config: dinov3.DINOv3Config, weights: str, parameters: int) -> Entry:
    """Returns DINOv3, preprocessing as in transformers' DINOv3ViTImageProcessor."""

    def adapt(declared: Declared) -> Entry:
        return dinov3_entry(dinov3.adapted(config, declared), weights, parameters)

    return Entry(
        module=partial(dinov3.DINOv3, config),
        preprocess=Preprocess("squash", 224, mean=_IMAGENET_MEAN, std=_IMAGENET_STD),
        weights=pinned(weights),
        parameters=parameters,
        layouts=dinov3.layouts(config),
        aliases=dinov3.aliases(config.depth),
        adapt=adapt,
    )


def pe_entry(config: pe.PEConfig, size: int, repository: str, parameters: int) -> Entry:
    """Returns PE-Core, preprocessing as in open_clip/pretrained.py; its vocabulary is CLIP's."""

    def adapt(declared: Declared) -> Entry:
        return pe_entry(pe.adapted(config, declared, size), size, repository, parameters)

    return Entry(
        module=partial(pe.PE, config),
        preprocess=Preprocess("squash", size),
        weights=pinned(repository),
        parameters=parameters,
        layouts=pe.layouts(config),
        aliases=pe.aliases(config),
        text=Text(pinned("openai/clip-vit-base-patch32"), "clip", config.text.length),
        adapt=adapt,
    )
