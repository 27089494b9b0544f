"""How fast the networks run, beside torch on the same machine in the same run.

    python benchmarks/models.py                    # CPU: ResNet-50 at 224 and SigLIP-B/16-224's
                                                   # image tower, float32, beside torch
    python benchmarks/models.py --peak_tflops=989  # GPU or TPU: bfloat16, images per second and
                                                   # share of the given peak

Random weights (time does not depend on them); torch runs transformers' networks of the same shapes.
Rounds alternate between the two, so that other load on the machine falls on both; the best round of
each counts. Flops are XLA's own count of the compiled program.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
from absl import app, flags

from jaxle.models import resnet, siglip, vit

_BATCH = flags.DEFINE_integer("batch", 8, "Images a forward pass (accelerators: 32 times as many).")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed rounds of each.")
_PEAK = flags.DEFINE_float(
    "peak_tflops",
    None,
    "Peak of the accelerator in bfloat16, 10¹² floating-point operations a second.",
)


def network(module, size: int, batch: int, dtype):
    """A compiled forward pass on images that stay on the device, and its flops."""
    images = jax.random.normal(jax.random.key(0), (batch, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    variables = jax.tree.map(
        lambda leaf: (
            0.02 * jax.random.normal(jax.random.key(1, impl="rbg"), leaf.shape).astype(dtype)
        ),
        shapes,
    )
    variables = {
        k: jax.tree.map(jnp.abs, v) if k == "batch_stats" else v for k, v in variables.items()
    }
    compiled = jax.jit(module.apply).lower(variables, images).compile()
    analysis = compiled.cost_analysis()
    assert analysis is not None, "XLA counts the flops of every program"
    return lambda: jax.block_until_ready(compiled(variables, images)), analysis["flops"]


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


def best(*runs, rounds: int) -> list[float]:
    """Seconds of the best round of each, rounds alternating, after one that is not timed."""
    times = [[] for _ in runs]
    for i in range(rounds + 1):
        for run, held in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if i:
                held.append(time.perf_counter() - start)
    return [min(held) for held in times]


def beside_torch(batch: int, rounds: int) -> None:
    """Prints the table for a CPU."""
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
        run, _ = network(module, 224, batch, jnp.float32)
        ours, theirs = best(run, torch_network(name, 224, batch), rounds=rounds)
        print(f"{name:28}{batch / ours:16.2f}{batch / theirs:16.2f}{theirs / ours:8.2f}")


def on_accelerator(batch: int, rounds: int, peak: float) -> None:
    """Prints the table for a GPU or TPU."""
    print(f"{jax.devices()[0].device_kind}, bfloat16, batch {batch}, peak {peak} TFLOP/s")
    print(f"{'network':28}{'images/s':>12}{'TFLOP/s':>10}{'of peak':>9}")
    cases = {
        "ResNet-50 at 224": (resnet.ResNet(resnet.resnet50(), jnp.bfloat16), 224),
        "SigLIP-L/16-384, images": (vit.ViT(siglip.of_size("L", 16).image, jnp.bfloat16), 384),
        "So400m/14-384, images": (vit.ViT(siglip.of_size("So400m", 14).image, jnp.bfloat16), 384),
    }
    for name, (module, size) in cases.items():
        run, flops = network(module, size, batch, jnp.bfloat16)
        (seconds,) = best(run, rounds=rounds)
        rate = flops / seconds / 1e12
        print(f"{name:28}{batch / seconds:12.0f}{rate:10.1f}{rate / peak:9.1%}")


def main(_) -> None:
    if jax.default_backend() == "cpu":
        beside_torch(_BATCH.value, _ROUNDS.value)
    elif _PEAK.value is None:
        raise app.UsageError("give --peak_tflops, the accelerator's peak in bfloat16")
    else:
        on_accelerator(32 * _BATCH.value, _ROUNDS.value, _PEAK.value)


if __name__ == "__main__":
    app.run(main)
