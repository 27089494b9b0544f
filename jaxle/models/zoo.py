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
from jaxle.models import clip, convnext, dinov2, dinov3, pe, resnet, siglip, vgg, vit
from jaxle.models.checkpoints import Tensors, flatten, read, tensors_hash, weights_hash
from jaxle.models.cifar_resnet import resnet20, resnet32, resnet44, resnet56, resnet110
from jaxle.models.declared import Declared, config_json
from jaxle.models.download import locate
from jaxle.models.entry import DTYPES, Entry, Making, cast, make, own_entry, preprocess_of
from jaxle.models.families import (
    cifar10_entry,
    clip_entry,
    convnext_entry,
    dinov2_entry,
    dinov3_entry,
    pe_entry,
    resnet_entry,
    scenes_resnet_entry,
    scenes_siglip_entry,
    siglip_entry,
    vgg_entry,
    vit_entry,
)
from jaxle.models.finite import check_variables
from jaxle.models.model import Model
from jaxle.models.placement import place
from jaxle.models.tokenizers import beside, load_tokenizer
from jaxle.models.two_tower import TwoTower
from jaxle.models.weights import convert, shapes

_CHENYAOFO = "https://github.com/chenyaofo/pytorch-cifar-models/releases/download/"
# File names carry the first digits of their sha256; these are the IMAGENET1K_V1.
_TORCHVISION = "https://download.pytorch.org/models/"
_PLACES = "http://places2.csail.mit.edu/models_places365/"
_BIG_VISION = "https://storage.googleapis.com/big_vision/"

ZOO: dict[str, Entry] = {
    "scenes_resnet": scenes_resnet_entry("target.npz", 172_701),
    "scenes_siglip_s": scenes_siglip_entry(
        vit.ViTConfig(width=128, depth=3, mlp_dim=384, heads=4),
        siglip.TextConfig(width=64, depth=2, mlp_dim=256, heads=4),
        "siglip_s.npz",
        937_346,
    ),
    "scenes_siglip_m": scenes_siglip_entry(
        vit.ViTConfig(width=160, depth=4, mlp_dim=352, heads=5),
        siglip.TextConfig(width=80, depth=2, mlp_dim=256, heads=4),
        "siglip_m.npz",
        1_441_634,
    ),
    "resnet20_cifar10": cifar10_entry(resnet20(), "resnet20-12fca82f.th", 269_722),
    "resnet32_cifar10": cifar10_entry(resnet32(), "resnet32-d509ac18.th", 464_154),
    "resnet44_cifar10": cifar10_entry(resnet44(), "resnet44-014dd654.th", 658_586),
    "resnet56_cifar10": cifar10_entry(resnet56(), "resnet56-4bfd9763.th", 853_018),
    "resnet110_cifar10": cifar10_entry(resnet110(), "resnet110-1d1ed7c2.th", 1_727_962),
    "resnet18_imagenet": resnet_entry(resnet.resnet18(), "timm/resnet18.tv_in1k", 11_689_512),
    "resnet34_imagenet": resnet_entry(resnet.resnet34(), "timm/resnet34.tv_in1k", 21_797_672),
    "resnet50_imagenet": resnet_entry(resnet.resnet50(), "timm/resnet50.tv_in1k", 25_557_032),
    "resnet101_imagenet": resnet_entry(resnet.resnet101(), "timm/resnet101.tv_in1k", 44_549_160),
    "resnet152_imagenet": resnet_entry(resnet.resnet152(), "timm/resnet152.tv_in1k", 60_192_808),
    "resnet18_places365": resnet_entry(
        resnet.resnet18(365), _PLACES + "resnet18_places365.pth.tar", 11_363_757
    ),
    "vgg11_imagenet": vgg_entry(vgg.imagenet(11, False), "timm/vgg11.tv_in1k", 132_863_336),
    "vgg13_imagenet": vgg_entry(vgg.imagenet(13, False), "timm/vgg13.tv_in1k", 133_047_848),
    "vgg16_imagenet": vgg_entry(vgg.imagenet(16, False), "timm/vgg16.tv_in1k", 138_357_544),
    "vgg19_imagenet": vgg_entry(vgg.imagenet(19, False), "timm/vgg19.tv_in1k", 143_667_240),
    "vgg11_bn_imagenet": vgg_entry(vgg.imagenet(11, True), "timm/vgg11_bn.tv_in1k", 132_868_840),
    "vgg13_bn_imagenet": vgg_entry(vgg.imagenet(13, True), "timm/vgg13_bn.tv_in1k", 133_053_736),
    "vgg16_bn_imagenet": vgg_entry(vgg.imagenet(16, True), "timm/vgg16_bn.tv_in1k", 138_365_992),
    "vgg19_bn_imagenet": vgg_entry(vgg.imagenet(19, True), "timm/vgg19_bn.tv_in1k", 143_678_248),
    "vgg11_bn_cifar100": vgg_entry(
        vgg.cifar(11), _CHENYAOFO + "vgg/cifar100_vgg11_bn-57d0759e.pt", 9_802_596
    ),
    "vgg13_bn_cifar100": vgg_entry(
        vgg.cifar(13), _CHENYAOFO + "vgg/cifar100_vgg13_bn-5ebe5778.pt", 9_987_492
    ),
    "vgg16_bn_cifar100": vgg_entry(
        vgg.cifar(16), _CHENYAOFO + "vgg/cifar100_vgg16_bn-7d8c4031.pt", 15_299_748
    ),
    "vgg19_bn_cifar100": vgg_entry(
        vgg.cifar(19), _CHENYAOFO + "vgg/cifar100_vgg19_bn-b98f7bd7.pt", 20_612_004
    ),
    # the class token's own position is added to the token (models/vit.py), hence one width less
    "vit_b_16_imagenet": vit_entry(
        vit.of_size("B", 16), _TORCHVISION + "vit_b_16-c867db91.pth", 86_567_656 - 768
    ),
    "vit_b_32_imagenet": vit_entry(
        vit.of_size("B", 32), _TORCHVISION + "vit_b_32-d86f8d99.pth", 88_224_232 - 768
    ),
    "vit_l_16_imagenet": vit_entry(
        vit.of_size("L", 16), _TORCHVISION + "vit_l_16-852ce7e3.pth", 304_326_632 - 1024
    ),
    "vit_l_32_imagenet": vit_entry(
        vit.of_size("L", 32), _TORCHVISION + "vit_l_32-c7638314.pth", 306_535_400 - 1024
    ),
    "vit_small_patch16_224": vit_entry(
        vit.of_size("S", 16),
        "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        22_050_664 - 384,
        Preprocess("shorter_side", 224, crop=224 / 248, interpolation="bicubic"),
    ),
    "vit_base_patch16_224": vit_entry(
        vit.of_size("B", 16, epsilon=1e-12),
        "google/vit-base-patch16-224",
        86_567_656 - 768,
        Preprocess("squash", 224),
    ),
    "vit_s16_i1k": vit_entry(  # arXiv 2205.01580, 90 epochs
        vit.of_size(
            "S", 16, pool="gap", positions="sincos2d", activation="gelu_tanh", rep_size=True
        ),
        _BIG_VISION + "vit_s16_i1k_90ep.npz",
        22_122_472,
        Preprocess(
            "shorter_side", 224, crop=224 / 256
        ),  # its authors resized by area, which differs by little
    ),
    "convnext_tiny_imagenet": convnext_entry(
        convnext.of_size("tiny"), "timm/convnext_tiny.fb_in1k", 28_589_128
    ),
    "convnext_small_imagenet": convnext_entry(
        convnext.of_size("small"), "timm/convnext_small.fb_in1k", 50_223_688
    ),
    "convnext_base_imagenet": convnext_entry(
        convnext.of_size("base"), "timm/convnext_base.fb_in1k", 88_591_464
    ),
    "convnext_large_imagenet": convnext_entry(
        convnext.of_size("large"), "timm/convnext_large.fb_in1k", 197_767_336
    ),
    "convnextv2_nano_imagenet": convnext_entry(
        convnext.of_size("nano", True), "timm/convnextv2_nano.fcmae_ft_in1k", 15_623_800
    ),
    "convnextv2_tiny_imagenet": convnext_entry(
        convnext.of_size("tiny", True), "timm/convnextv2_tiny.fcmae_ft_in1k", 28_635_496
    ),
    "convnextv2_base_imagenet": convnext_entry(
        convnext.of_size("base", True), "timm/convnextv2_base.fcmae_ft_in1k", 88_717_800
    ),
    "convnextv2_large_imagenet": convnext_entry(
        convnext.of_size("large", True), "timm/convnextv2_large.fcmae_ft_in1k", 197_956_840
    ),
    # without the token of masked training; the class token's own position is added to the token
    "dinov2_s_14": dinov2_entry(dinov2.of_size("S"), "facebook/dinov2-small", 22_056_576 - 2 * 384),
    "dinov2_b_14": dinov2_entry(dinov2.of_size("B"), "facebook/dinov2-base", 86_580_480 - 2 * 768),
    "dinov2_l_14": dinov2_entry(
        dinov2.of_size("L"), "facebook/dinov2-large", 304_368_640 - 2 * 1024
    ),
    "dinov2_g_14": dinov2_entry(
        dinov2.of_size("g"), "facebook/dinov2-giant", 1_136_480_768 - 2 * 1536
    ),
    "dinov2_s_14_reg": dinov2_entry(
        dinov2.of_size("S", 4), "facebook/dinov2-with-registers-small", 22_056_576 + 2 * 384
    ),
    "dinov2_b_14_reg": dinov2_entry(
        dinov2.of_size("B", 4), "facebook/dinov2-with-registers-base", 86_580_480 + 2 * 768
    ),
    "dinov2_l_14_reg": dinov2_entry(
        dinov2.of_size("L", 4), "facebook/dinov2-with-registers-large", 304_368_640 + 2 * 1024
    ),
    "dinov2_g_14_reg": dinov2_entry(
        dinov2.of_size("g", 4), "facebook/dinov2-with-registers-giant", 1_136_480_768 + 2 * 1536
    ),
    "dinov3_s_16": dinov3_entry(
        dinov3.of_size("S"), "facebook/dinov3-vits16-pretrain-lvd1689m", 21_596_160
    ),
    "dinov3_s_plus_16": dinov3_entry(
        dinov3.of_size("S+"), "facebook/dinov3-vits16plus-pretrain-lvd1689m", 28_692_480
    ),
    "dinov3_b_16": dinov3_entry(
        dinov3.of_size("B"), "facebook/dinov3-vitb16-pretrain-lvd1689m", 85_659_648
    ),
    "dinov3_l_16": dinov3_entry(
        dinov3.of_size("L"), "facebook/dinov3-vitl16-pretrain-lvd1689m", 303_128_576
    ),
    "dinov3_h_plus_16": dinov3_entry(
        dinov3.of_size("H+"), "facebook/dinov3-vith16plus-pretrain-lvd1689m", 840_591_360
    ),
    "siglip_b_16_224": siglip_entry(
        siglip.of_size("B", 16), 224, "siglip-base-patch16-224", 203_155_970
    ),
    "siglip_b_16_256": siglip_entry(
        siglip.of_size("B", 16), 256, "siglip-base-patch16-256", 203_202_050
    ),
    "siglip_b_16_384": siglip_entry(
        siglip.of_size("B", 16), 384, "siglip-base-patch16-384", 203_447_810
    ),
    "siglip_b_16_512": siglip_entry(
        siglip.of_size("B", 16), 512, "siglip-base-patch16-512", 203_791_874
    ),
    "siglip_l_16_256": siglip_entry(
        siglip.of_size("L", 16), 256, "siglip-large-patch16-256", 652_150_786
    ),
    "siglip_l_16_384": siglip_entry(
        siglip.of_size("L", 16), 384, "siglip-large-patch16-384", 652_478_466
    ),
    "siglip_so400m_14_224": siglip_entry(
        siglip.of_size("So400m", 14, length=16), 224, "siglip-so400m-patch14-224", 877_360_306
    ),
    "siglip_so400m_14_384": siglip_entry(
        siglip.of_size("So400m", 14), 384, "siglip-so400m-patch14-384", 877_960_498
    ),
    "siglip_b_16_256_i18n": siglip_entry(
        siglip.of_size("B", 16, 250_000), 256, "siglip-base-patch16-256-multilingual", 370_626_050
    ),
    "siglip2_b_32_256": siglip_entry(
        siglip.of_size("B", 32, 256_000), 256, "siglip2-base-patch32-256", 376_856_066
    ),
    "siglip2_b_16_224": siglip_entry(
        siglip.of_size("B", 16, 256_000), 224, "siglip2-base-patch16-224", 375_187_970
    ),
    "siglip2_b_16_256": siglip_entry(
        siglip.of_size("B", 16, 256_000), 256, "siglip2-base-patch16-256", 375_234_050
    ),
    "siglip2_b_16_384": siglip_entry(
        siglip.of_size("B", 16, 256_000), 384, "siglip2-base-patch16-384", 375_479_810
    ),
    "siglip2_b_16_512": siglip_entry(
        siglip.of_size("B", 16, 256_000), 512, "siglip2-base-patch16-512", 375_823_874
    ),
    "siglip2_l_16_256": siglip_entry(
        siglip.of_size("L", 16, 256_000), 256, "siglip2-large-patch16-256", 881_526_786
    ),
    "siglip2_l_16_384": siglip_entry(
        siglip.of_size("L", 16, 256_000), 384, "siglip2-large-patch16-384", 881_854_466
    ),
    "siglip2_l_16_512": siglip_entry(
        siglip.of_size("L", 16, 256_000), 512, "siglip2-large-patch16-512", 882_313_218
    ),
    "siglip2_so400m_14_224": siglip_entry(
        siglip.of_size("So400m", 14, 256_000), 224, "siglip2-so400m-patch14-224", 1_135_463_602
    ),
    "siglip2_so400m_14_384": siglip_entry(
        siglip.of_size("So400m", 14, 256_000), 384, "siglip2-so400m-patch14-384", 1_136_008_498
    ),
    "siglip2_so400m_16_256": siglip_entry(
        siglip.of_size("So400m", 16, 256_000), 256, "siglip2-so400m-patch16-256", 1_135_670_962
    ),
    "siglip2_so400m_16_384": siglip_entry(
        siglip.of_size("So400m", 16, 256_000), 384, "siglip2-so400m-patch16-384", 1_136_039_602
    ),
    "siglip2_so400m_16_512": siglip_entry(
        siglip.of_size("So400m", 16, 256_000), 512, "siglip2-so400m-patch16-512", 1_136_555_698
    ),
    "clip_vit_b_32": clip_entry(
        clip.of_size("B", 32), 224, "openai/clip-vit-base-patch32", 151_277_313
    ),
    "clip_vit_b_16": clip_entry(
        clip.of_size("B", 16), 224, "openai/clip-vit-base-patch16", 149_620_737
    ),
    "clip_vit_l_14": clip_entry(
        clip.of_size("L", 14), 224, "openai/clip-vit-large-patch14", 427_616_513
    ),
    "clip_vit_l_14_336": clip_entry(
        clip.of_size("L", 14), 336, "openai/clip-vit-large-patch14-336", 427_944_193
    ),
    "clip_vit_b_32_datacomp": clip_entry(
        clip.of_size("B", 32, "gelu"),
        224,
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        151_277_313,
    ),
    "clip_vit_b_16_datacomp": clip_entry(
        clip.of_size("B", 16, "gelu"),
        224,
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        149_620_737,
    ),
    "clip_vit_l_14_datacomp": clip_entry(
        clip.of_size("L", 14, "gelu"),
        224,
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        427_616_513,
    ),
    "clip_vit_b_32_laion2b": clip_entry(
        clip.of_size("B", 32, "gelu"), 224, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 151_277_313
    ),
    "clip_vit_b_16_laion2b": clip_entry(
        clip.of_size("B", 16, "gelu"), 224, "laion/CLIP-ViT-B-16-laion2B-s34B-b88K", 149_620_737
    ),
    "clip_vit_l_14_laion2b": clip_entry(
        clip.of_size("L", 14, "gelu"),
        224,
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        427_616_513,
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ),
    "clip_vit_h_14_laion2b": clip_entry(
        clip.of_size("H", 14, "gelu"), 224, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 986_109_441
    ),
    "pe_core_t_16_384": pe_entry(pe.of_size("T"), 384, "timm/PE-Core-T-16-384", 69_546_113),
    "pe_core_s_16_384": pe_entry(pe.of_size("S"), 384, "timm/PE-Core-S-16-384", 87_188_225),
    "pe_core_b_16_224": pe_entry(pe.of_size("B"), 224, "timm/PE-Core-B-16", 447_660_545),
    "pe_core_l_14_336": pe_entry(pe.of_size("L"), 336, "timm/PE-Core-L-14-336", 671_138_817),
}


# Other repositories of the same networks: their ids work as names, with the preprocessing of these.
_SAME = {
    **{
        f"timm/vit_{long}_patch14{timm}dinov2.lvd142m": f"dinov2_{short}_14{ours}"
        for long, short in (("small", "s"), ("base", "b"), ("large", "l"), ("giant", "g"))
        for timm, ours in (("_", ""), ("_reg4_", "_reg"))
    },
    **{
        f"facebook/dinov2-{long}-imagenet1k-1-layer": f"dinov2_{short}_14"
        for long, short in (("small", "s"), ("base", "b"), ("large", "l"), ("giant", "g"))
    },
    **{
        f"timm/vit_{timm}_patch16_dinov3.lvd1689m": f"dinov3_{ours}_16"
        for timm, ours in (
            ("small", "s"),
            ("small_plus", "s_plus"),
            ("base", "b"),
            ("large", "l"),
            ("huge_plus", "h_plus"),
        )
    },
    **{
        f"facebook/convnext-{size}-224": f"convnext_{size}_imagenet"
        for size in ("tiny", "small", "base", "large")
    },
    **{
        f"facebook/convnextv2-{size}-1k-224": f"convnextv2_{size}_imagenet"
        for size in ("nano", "tiny", "base", "large")
    },
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
        "package.module:name" of any importable Linen class, of a flax.nnx class or object, or of
        an `Entry` for one.
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
      Model; TwoTower for SigLIP, CLIP and PE-Core.

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
            named = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            entry = entry.adapt(Declared(what, found, config, asked, named))
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
    if repository in _SAME:
        return _SAME[repository], (name if weights is None else weights)
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
