"""How fast the networks run, as the pass over the images runs them, and how near to the peak.

Modules, preprocessing and taps are the zoo's; weights are random, since time does not depend on
them. A step normalises uint8 images on the device, runs the network, pools a tap and checks that
every module's output is finite (`pipeline/image_pass.py`). Images lie on the device: what the host
decodes and sends is another benchmark's. Flops are XLA's count of the program before it is
compiled, so that calls of a library count, too; the peak is the rate of a large matrix product of
the same dtype in the same run (benchmarks/accelerator/hardware.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.accelerator.section import GIB, Out, best, flops
from benchmarks.accelerator.table import short
from jaxle.models.entry import cast, make
from jaxle.models.finite import probe_finite
from jaxle.models.model import Model
from jaxle.models.zoo import ZOO


class Case(NamedTuple):
    """A network, what is read of it (its output where there is no tap), and images a step."""

    title: str
    name: str
    pools: Mapping[str, str]
    batch: int


FULL = (
    Case("ResNet-50", "resnet50_imagenet", {"layer4": "avg"}, 256),
    Case("SigLIP-L/16-384", "siglip_l_16_384", {}, 64),
    Case("SigLIP-So400m/14-384", "siglip_so400m_14_384", {}, 64),
    Case("ViT-B/16", "vit_b_16_imagenet", {"encoder.layers.encoder_layer_11.mlp[1]": "first"}, 256),
)
SMALL = (
    Case("ResNet of the scenes", "scenes_resnet", {"layer3": "avg"}, 8),
    Case("SigLIP of the scenes", "scenes_siglip_s", {}, 8),
)
DTYPES = ("bfloat16", "float32")


def measure(out: Out) -> None:
    """Rows of the table "networks"; hands on images a second by title and dtype."""
    longest = 0.0
    for dtype in DTYPES:
        for case in SMALL if out.small else FULL:
            if not out.has(1.2 * longest):
                cells = {"network": f"{case.title} (skipped: no time left)", "dtype": dtype}
                out.row("networks", cells)
                continue
            start = time.monotonic()
            _row(out, case, dtype)
            longest = max(longest, time.monotonic() - start)


def random_model(name: str, dtype: str) -> Model:
    """Returns a network of the zoo with random weights of full shape; of two towers, the image's.

    Args:
      name: a key of the zoo.
      dtype: "bfloat16" or "float32".
    """
    entry = ZOO[name]
    making = make(entry, name, entry.preprocess.size, dtype, {}, {})
    shapes = {kind: dict(tree) for kind, tree in making.expected().items()}
    shapes["params"].pop("txt", None)  # images do not read it
    key = jax.random.key(0, impl="rbg")

    def draw(path, leaf):
        values = 0.02 * jax.random.normal(key, leaf.shape)
        # variances are positive
        return jnp.abs(values) if path[0].key == "batch_stats" else values

    variables = cast(jax.tree_util.tree_map_with_path(draw, shapes), dtype)
    return Model(
        name,
        making.module,
        variables,
        entry.preprocess,
        entry.class_names,
        entry.aliases,
        "random",
        making.call,
    )


def _row(out: Out, case: Case, dtype: str) -> None:
    model = random_model(case.name, dtype)
    side = model.preprocess.size
    images = jax.device_put(
        np.random.default_rng(0).integers(0, 256, (case.batch, side, side, 3), np.uint8)
    )

    def read(variables: Any, images: jax.Array):
        return probe_finite(model, images, case.pools, variables)

    lowered = jax.jit(read).lower(model.variables, images)
    start = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter() - start
    seconds = best(lambda: program(model.variables, images), rounds=3 if out.small else 8)
    count, rate = flops(read, model.variables, images), case.batch / seconds
    used = program.memory_analysis()
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    held = sum(getattr(used, name) for name in sizes) / GIB if used else None
    out.know(**{f"{case.title}, {dtype}": rate})
    out.row(
        "networks",
        {
            "network": case.title,
            "dtype": dtype,
            "batch": str(case.batch),
            "images/s": short(rate),
            "TFLOP/s": short(count / seconds / 1e12),
            "of peak": f"{count / seconds / out.known[dtype]:.0%}",
            "compiled in, s": short(compiled),
            "GiB": short(held),
        },
    )
