"""Commits of hub repositories, so that default weights stay the ones that were read.

Source: public code that names them; after CLIP's, embeddings-benchmark/mteb (DINOv2, LAION's and
DataComp's CLIP), open-edge-platform/geti-prompt (registers, DINOv3), rktorch (timm's copies of
torchvision's) and LibreYOLO (PE-Core). A repository that is not listed is taken as it is today:
`hub-id@commit` as weights pins it.
"""

REVISIONS = {
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
    "timm/resnet18.tv_in1k": "bbd144b3e5565108aad885f145491d11bc6ce807",
    "timm/resnet34.tv_in1k": "1b7b21cca82ff974d341713f777bf740c2db38c4",
    "timm/resnet50.tv_in1k": "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
    "timm/vgg16.tv_in1k": "b8d8aa2dd860af9233c8c67385a8097fd6c35d3f",
    "facebook/dinov2-small": "ed25f3a31f01632728cabb09d1542f84ab7b0056",
    "facebook/dinov2-base": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    "facebook/dinov2-large": "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    "facebook/dinov2-giant": "611a9d42f2335e0f921f1e313ad3c1b7178d206d",
    "facebook/dinov2-with-registers-small": "0d9846e56b43a21fa46d7f3f5070f0506a5795a9",
    "facebook/dinov2-with-registers-base": "a1d738ccfa7ae170945f210395d99dde8adb1805",
    "facebook/dinov2-with-registers-large": "e4c89a4e05589de9b3e188688a303d0f3c04d0f3",
    "facebook/dinov2-with-registers-giant": "8d0d49f77fb8b5dd78842496ff14afe7dd4d85cb",
    "facebook/dinov3-vits16-pretrain-lvd1689m": "114c1379950215c8b35dfcd4e90a5c251dde0d32",
    "facebook/dinov3-vits16plus-pretrain-lvd1689m": "c93d816fc9e567563bc068f01475bec89cc634a6",
    "facebook/dinov3-vitb16-pretrain-lvd1689m": "5931719e67bbdb9737e363e781fb0c67687896bc",
    "facebook/dinov3-vitl16-pretrain-lvd1689m": "ea8dc2863c51be0a264bab82070e3e8836b02d51",
    "facebook/dinov3-vith16plus-pretrain-lvd1689m": "c807c9eeea853df70aec4069e6f56b28ddc82acc",
    "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": "f0e2ffa09cbadab3db6a261ec1ec56407ce42912",
    # refs/pr/2: the main branch's tensors as .safetensors, which that branch lacks
    "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": "05fa70d888b3dcddcaeb5906c71e35e736bc8d42",
    "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K": "84c9828e63dc9a9351d1fe637c346d4c1c4db341",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "08f73555f1b2fb7c82058aebbd492887a94968ef",
    "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "1627032197142fbe2a7cfec626f4ced3ae60d07a",
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "de081ac0a0ca8dc9d1533eed1ae884bb8ae1404b",
    "timm/PE-Core-T-16-384": "7fe539ed578ac49a1c2b4f946e4b0747704c825a",
    "timm/PE-Core-S-16-384": "3249a38eb1c432ec19231c6fe1774acb6a4e4efe",
    "timm/PE-Core-B-16": "0038414f37721c5eafc1a5e0da802d291c909de3",
    "timm/PE-Core-L-14-336": "8eff41b3f687e50a323662c2dda5eb3588c6dd35",
}


def pinned(hub: str) -> str:
    """Returns a hub id with the commit that is known of it."""
    return f"{hub}@{REVISIONS[hub]}" if hub in REVISIONS else hub
