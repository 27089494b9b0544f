"""Every entry's parameter count beside the one its authors or the file's host publish; `test_zoo`
counts the network's own parameters.

torchvision  `num_params` of the weights (torchvision/models/*.py),
             https://docs.pytorch.org/vision/stable/models.html
timm         `param_count`, M, results/results-imagenet.csv of
             https://github.com/huggingface/pytorch-image-models; of DINOv3, `numel` of the
             parameters of `timm.create_model("vit_…_dinov3_qkvb")`, version 1.0.31
mteb         `n_parameters` of the hub's files, SigLIP 2 included,
             mteb/models/model_implementations/siglip_models.py and dino_models.py of
             https://github.com/embeddings-benchmark/mteb
open_clip    `mparams`, docs/model_profile.csv of https://github.com/mlfoundations/open_clip;
             of PE-Core, `numel` of its parameters, `open_clip.create_model` of version 3.3.0
akamaster    the table of https://github.com/akamaster/pytorch_resnet_cifar10
chenyaofo    https://github.com/chenyaofo/pytorch-cifar-models#cifar-100
big_vision   no count: the shape of big_vision/configs/vit_s16_i1k.py in
             https://github.com/google-research/big_vision
"""

import pytest

from jaxle.models import zoo

EXACT = {  # torchvision; mteb; timm; open_clip
    "resnet18_imagenet": 11_689_512,
    "resnet34_imagenet": 21_797_672,
    "resnet50_imagenet": 25_557_032,
    "resnet101_imagenet": 44_549_160,
    "resnet152_imagenet": 60_192_808,
    "vgg11_imagenet": 132_863_336,
    "vgg13_imagenet": 133_047_848,
    "vgg16_imagenet": 138_357_544,
    "vgg19_imagenet": 143_667_240,
    "vgg11_bn_imagenet": 132_868_840,
    "vgg13_bn_imagenet": 133_053_736,
    "vgg16_bn_imagenet": 138_365_992,
    "vgg19_bn_imagenet": 143_678_248,
    "vit_b_16_imagenet": 86_567_656,
    "vit_b_32_imagenet": 88_224_232,
    "vit_l_16_imagenet": 304_326_632,
    "vit_l_32_imagenet": 306_535_400,
    "convnext_tiny_imagenet": 28_589_128,
    "convnext_small_imagenet": 50_223_688,
    "convnext_base_imagenet": 88_591_464,
    "convnext_large_imagenet": 197_767_336,
    "dinov2_s_14": 22_056_576,
    "dinov2_b_14": 86_580_480,
    "dinov2_l_14": 304_368_640,
    "dinov2_g_14": 1_136_480_768,
    "dinov3_s_16": 21_596_160,
    "dinov3_s_plus_16": 28_692_480,
    "dinov3_b_16": 85_659_648,
    "dinov3_l_16": 303_128_576,
    "dinov3_h_plus_16": 840_591_360,
    "pe_core_t_16_384": 69_546_113,
    "pe_core_s_16_384": 87_188_225,
    "pe_core_b_16_224": 447_660_545,
    "pe_core_l_14_336": 671_138_817,
    "siglip_b_16_224": 203_155_970,
    "siglip_b_16_256": 203_202_050,
    "siglip_b_16_384": 203_447_810,
    "siglip_b_16_512": 203_791_874,
    "siglip_l_16_256": 652_150_786,
    "siglip_l_16_384": 652_478_466,
    "siglip_b_16_256_i18n": 370_626_050,
    "siglip_so400m_14_224": 877_360_306,
    "siglip_so400m_14_384": 877_960_498,
    "siglip2_b_32_256": 376_856_066,
    "siglip2_b_16_224": 375_187_970,
    "siglip2_b_16_256": 375_234_050,
    "siglip2_b_16_384": 375_479_810,
    "siglip2_b_16_512": 375_823_874,
    "siglip2_l_16_256": 881_526_786,
    "siglip2_l_16_384": 881_854_466,
    "siglip2_l_16_512": 882_313_218,
    "siglip2_so400m_14_224": 1_135_463_602,
    "siglip2_so400m_14_384": 1_136_008_498,
    "siglip2_so400m_16_256": 1_135_670_962,
    "siglip2_so400m_16_384": 1_136_039_602,
    "siglip2_so400m_16_512": 1_136_555_698,
}
# open_clip; timm (vit_base: the same network, .orig_in21k_ft_in1k); akamaster; chenyaofo: digits as
# printed.
MILLIONS = {
    "siglip_b_16_224": "203.16",
    "siglip_b_16_256": "203.20",
    "siglip_b_16_384": "203.45",
    "siglip_b_16_512": "203.79",
    "siglip_l_16_256": "652.15",
    "siglip_l_16_384": "652.48",
    "siglip_b_16_256_i18n": "370.63",
    "siglip_so400m_14_224": "877.36",
    "siglip_so400m_14_384": "877.96",
    "clip_vit_b_32": "151.28",
    "clip_vit_b_16": "149.62",
    "clip_vit_l_14": "427.62",
    "clip_vit_l_14_336": "427.94",
    "clip_vit_b_32_datacomp": "151.28",
    "clip_vit_b_16_datacomp": "149.62",
    "clip_vit_l_14_datacomp": "427.62",
    "clip_vit_b_32_laion2b": "151.28",
    "clip_vit_b_16_laion2b": "149.62",
    "clip_vit_l_14_laion2b": "427.62",
    "clip_vit_h_14_laion2b": "986.11",
    "convnextv2_nano_imagenet": "15.6",
    "convnextv2_tiny_imagenet": "28.6",
    "convnextv2_base_imagenet": "89",
    "convnextv2_large_imagenet": "198",
    "vit_small_patch16_224": "22.05",
    "vit_base_patch16_224": "86.57",
    "resnet20_cifar10": "0.27",
    "resnet32_cifar10": "0.46",
    "resnet44_cifar10": "0.66",
    "resnet56_cifar10": "0.85",
    "resnet110_cifar10": "1.7",
    "vgg11_bn_cifar100": "9.80",
    "vgg13_bn_cifar100": "9.99",
    "vgg16_bn_cifar100": "15.30",
    "vgg19_bn_cifar100": "20.61",
}
# with registers: four more tokens
REGISTERS = {f"{name}_reg": n for name, n in EXACT.items() if name.startswith("dinov2_")}
DERIVED = {
    **{
        name: n + 4 * w
        for (name, n), w in zip(REGISTERS.items(), (384, 768, 1024, 1536), strict=True)
    },
    "resnet18_places365": EXACT["resnet18_imagenet"]
    - (1000 - 365) * (512 + 1),  # the same network, other classes
    # patches, twelve blocks (two norms, four projections, mlp), last norm, `rep_size`, head;
    # sin-cos positions have no parameters
    "vit_s16_i1k": (16 * 16 * 3 + 1) * 384
    + 12 * (4 * 384 + 4 * 385 * 384 + 385 * 1536 + 1537 * 384)
    + 2 * 384
    + 385 * 384
    + 385 * 1000,
}


def published_form(name: str) -> int:
    """The class token's own position is added to the token in models/vit.py and dinov2.py;
    published networks keep both, and DINOv2 the token of masked training too."""
    entry = zoo.ZOO[name]
    config = getattr(entry.module(), "config", None)
    if name.startswith("dinov2_"):
        return entry.parameters + 2 * config.width
    return entry.parameters + (
        config.width if name.startswith("vit_") and config.pool == "tok" else 0
    )


@pytest.mark.parametrize("name", EXACT | DERIVED)
def test_to_the_last_parameter(name):
    assert published_form(name) == (EXACT | DERIVED)[name]


@pytest.mark.parametrize("name", MILLIONS)
def test_to_the_digits_printed(name):
    digits = len(MILLIONS[name].partition(".")[2])
    assert f"{published_form(name) / 1e6:.{digits}f}" == MILLIONS[name]


def test_none_is_left_out():
    """But for the networks of the scenes, which are trained here and published nowhere else."""
    theirs = {name for name in zoo.ZOO if not name.startswith("scenes_")}
    assert theirs == EXACT.keys() | MILLIONS.keys() | DERIVED.keys()
