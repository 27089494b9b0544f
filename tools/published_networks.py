"""Compares networks of the zoo with timm's, torchvision's and open_clip's own, on random weights.

    pip install timm==1.0.31 torchvision==0.28.0 open_clip_torch==3.3.0
    python -m tools.published_networks [timm | torchvision | open_clip]

Each of theirs is made at full size, its tensors are read by the layout that reads the published
files, and both get the same image (two texts, too, for two towers). Printed is the largest
difference of the outputs, as a share of their scale; above 1e-5 the exit status is 1.

The tests compare with transformers and with restatements in torch, which need no further package.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxle.models import zoo
from jaxle.models.weights import convert

# Library, its name of a network, the zoo's, and arguments of its constructor.
ROWS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("timm", "resnet50", "resnet50_imagenet", {}),
    ("timm", "vgg11_bn", "vgg11_bn_imagenet", {}),
    ("timm", "convnext_tiny", "convnext_tiny_imagenet", {}),
    ("timm", "convnextv2_nano", "convnextv2_nano_imagenet", {}),
    ("timm", "convnextv2_tiny", "convnextv2_tiny_imagenet", {}),
    ("timm", "vit_small_patch14_dinov2", "dinov2_s_14", {"num_classes": 0}),
    ("timm", "vit_small_patch14_reg4_dinov2", "dinov2_s_14_reg", {"num_classes": 0}),
    ("timm", "vit_small_patch16_dinov3", "dinov3_s_16", {"global_pool": "token"}),
    ("timm", "vit_small_patch16_dinov3_qkvb", "dinov3_s_16", {"global_pool": "token"}),
    ("timm", "vit_small_plus_patch16_dinov3", "dinov3_s_plus_16", {"global_pool": "token"}),
    ("timm", "vit_small_plus_patch16_dinov3_qkvb", "dinov3_s_plus_16", {"global_pool": "token"}),
    ("torchvision", "convnext_tiny", "convnext_tiny_imagenet", {}),
    ("torchvision", "resnet50", "resnet50_imagenet", {}),
    ("torchvision", "vgg11_bn", "vgg11_bn_imagenet", {}),
    ("open_clip", "ViT-B-32", "clip_vit_b_32_datacomp", {}),
    ("open_clip", "PE-Core-T-16-384", "pe_core_t_16_384", {}),
    ("open_clip", "PE-Core-B-16", "pe_core_b_16_224", {}),
)
SIZES = {"dinov2": 518, "dinov3": 256}  # where theirs is not the zoo's
TOLERANCE = 1e-5


def make(library: str, name: str, arguments: dict[str, Any]) -> Any:
    """Returns a network of another library, with its own random weights."""
    if library == "timm":
        import timm  # pyright: ignore[reportMissingImports]

        return timm.create_model(name, **arguments)
    if library == "torchvision":
        import torchvision  # pyright: ignore[reportMissingImports]

        return getattr(torchvision.models, name)(**arguments)
    import open_clip  # pyright: ignore[reportMissingImports]

    return open_clip.create_model(name, **arguments)


def randomise(net: Any) -> Any:
    """Draws weights of unit gain and batch statistics off their defaults, so that no mistake hides;
    returns the network in evaluation mode."""
    import torch  # pyright: ignore[reportMissingImports]

    generator = torch.Generator().manual_seed(0)
    statistics = [item for item in net.named_buffers() if "running" in item[0]]
    with torch.no_grad():
        for name, value in (*net.named_parameters(), *statistics):
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2 and "embed" not in name:
                value.copy_(noise * (1.4 / value[0].numel() ** 0.5))
            elif name.endswith("running_var") or (name.endswith("weight") and value.ndim == 1):
                value.copy_(1 + 0.2 * noise.abs())
            else:
                value.copy_(0.1 * noise)
    return net.eval()


def compare(library: str, name: str, ours: str, arguments: dict[str, Any]) -> float:
    """Returns the largest difference of two networks' outputs, as a share of their scale."""
    import torch  # pyright: ignore[reportMissingImports]

    net, entry = randomise(make(library, name, arguments)), zoo.ZOO[ours]
    size = next((n for key, n in SIZES.items() if key in name), entry.preprocess.size)
    rng, module = np.random.default_rng(0), entry.module()
    inputs: list[np.ndarray] = [rng.normal(size=(1, size, size, 3)).astype(np.float32)]
    if entry.text is not None:
        tokens = rng.integers(1, 49_000, (2, entry.text.length), dtype=np.int32)
        tokens[:, 5] = 49_407  # the end of text
        inputs.append(tokens)
    source = {key: tensor.numpy() for key, tensor in net.state_dict().items()}
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    variables = jax.tree.map(jnp.asarray, convert(source, shapes, entry.layouts, name))
    got = jax.tree.leaves(jax.jit(module.apply)(variables, *inputs))
    with torch.no_grad():
        images = torch.tensor(inputs[0]).permute(0, 3, 1, 2)
        if entry.text is None:
            found = (net(images),)
        else:
            texts = torch.tensor(inputs[1]).long()
            found = net.encode_image(images, normalize=True), net.encode_text(texts, normalize=True)
    expected = [tensor.numpy() for tensor in found]
    shares = (np.abs(a - b).max() / np.abs(b).max() for a, b in zip(got, expected, strict=True))
    return float(max(shares))


def main(libraries: list[str]) -> int:
    """Prints a line a network; returns the exit status."""
    worst = 0.0
    for library, name, ours, arguments in ROWS:
        if not libraries or library in libraries:
            share = compare(library, name, ours, arguments)
            worst = max(worst, share)
            print(f"{library:12} {name:36} {ours:26} {share:.1e} of the scale", flush=True)
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
