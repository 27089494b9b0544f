"""How fast the networks run, beside torch on the same machine in the same run.

    python benchmarks/models.py [--batch 8] [--rounds 5]

ResNet-50 at 224 and SigLIP-B/16-224's image tower, float32, on a CPU; on an accelerator it is
`python -m benchmarks.accelerator`. Random weights (time does not depend on them); torch runs
transformers' networks of the same shapes. Rounds alternate between the two, so that other load on
the machine falls on both; the best round of each counts, and of the ratio in CPU seconds, too.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ratios import cpu, ratio  # noqa: E402
from jaxle.models import resnet, siglip, vit


def network(module, size: int, batch: int):
    """A compiled forward pass on images that stay on the device."""
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    variables = jax.tree.map(
        lambda leaf: 0.02 * jax.random.normal(jax.random.key(1, impl="rbg"), leaf.shape), shapes
    )
    variables = {
        k: jax.tree.map(jnp.abs, v) if k == "batch_stats" else v for k, v in variables.items()
    }
    compiled = jax.jit(module.apply).lower(variables, images).compile()
    return lambda: jax.block_until_ready(compiled(variables, images))


def torch_network(name: str, size: int, batch: int):
    """The same shape from transformers."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    if name.startswith("ResNet"):
        config = ResNetConfig()
        config.num_labels = 1000
        net = ResNetForImageClassification(config)
    else:
        net = SiglipVisionModel(SiglipVisionConfig(image_size=size, patch_size=16))
    net, images = net.eval(), torch.randn(batch, 3, size, size)

    def run():
        with torch.inference_mode():
            net(images)

    return run


def best(*runs, rounds: int) -> np.ndarray:
    """Least seconds of each by the wall's clock and by the CPU's, (runs, 2).

    Rounds alternate, after one that is not timed.
    """
    times = [[] for _ in runs]
    for i in range(rounds + 1):
        for run, held in zip(runs, times, strict=True):
            start = np.array([time.perf_counter(), cpu()])
            run()
            if i:
                held.append(np.array([time.perf_counter(), cpu()]) - start)
    return np.min(times, axis=1)


def beside_torch(batch: int, rounds: int) -> None:
    """Prints the table."""
    import torch  # pyright: ignore[reportMissingImports]

    print(
        f"{jax.devices()[0].device_kind}, float32, batch {batch}, torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads"
    )
    print(f"{'network':28}{'jaxle images/s':>16}{'torch images/s':>16}{'ratio':>8}")
    cases = {
        "ResNet-50 at 224": resnet.ResNet(resnet.resnet50()),
        "SigLIP-B/16-224, images": vit.ViT(siglip.of_size("B", 16).image),
    }
    for name, module in cases.items():
        run = network(module, 224, batch)
        found = best(run, torch_network(name, 224, batch), rounds=rounds)
        (ours, theirs), (busy, their_busy) = found.T
        print(f"{name:28}{batch / ours:16.2f}{batch / theirs:16.2f}{theirs / ours:8.2f}")
        ratio(f"{name}, torch / jaxle, CPU seconds", their_busy / busy)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images a forward pass")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each")
    own = parser.parse_args()
    beside_torch(own.batch, own.rounds)


if __name__ == "__main__":
    main()
