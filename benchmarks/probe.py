"""The pass over the images: how fast it is beside its halves and beside torch, and what it holds.

    python benchmarks/probe.py                       # ResNet-18 at 224, 512 photographs of 500×375
    python benchmarks/probe.py --network=resnet50 --folder=PATH/TO/JPEGS
    python benchmarks/probe.py --memory              # 1,000 and 100,000 images of 32×32

Rates, in images a second on all cores, the best of some rounds in which all take turns, so that
other load on the machine falls on all:

    decode    read, decode and resize, no network
    network   the same batch again and again, no images
    both      `pipeline.image_pass.read_images`: activations of five taps, parts written to disk
    torch     torch's DataLoader and the same network, whose taps hooks average

Where the network computes on the cores that decode, `both` cannot reach the slower half: the best
is 1 / (1 / decode + 1 / network), which is shown too. `--memory` starts a process for each number
of images and shows the most memory that each had (resident), the whole arrays written at the end.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from etils import epath
from PIL import Image

from jaxle import artifacts
from jaxle.data.loader import Decoding, batches
from jaxle.images import Preprocess, decode
from jaxle.mesh import make_mesh
from jaxle.models import resnet
from jaxle.models.model import Model
from jaxle.pipeline.image_pass import arrays_of, read_images, whole_arrays
from jaxle.pipeline.images_ahead import Pass
from jaxle.pipeline.parts import missing_parts
from jaxle.pipeline.readers import Reading, reader

_NETWORK = flags.DEFINE_enum("network", "resnet18", ["resnet18", "resnet50"], "Which network.")
_FOLDER = flags.DEFINE_string("folder", "", "Of JPEG images; empty: made now.")
_IMAGES = flags.DEFINE_integer("images", 512, "How many images a round.")
_BATCH = flags.DEFINE_integer("batch", 32, "Images a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed rounds of each.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Decoding processes of jaxle; 0: threads.")
_MEMORY = flags.DEFINE_bool("memory", False, "Measure memory in place of speed.")
_HELD = flags.DEFINE_integer("held", 0, "Internal: one measurement of memory, of so many images.")

TAPS = ("conv1", "layer1", "layer2", "layer3", "layer4")
FIT = Preprocess(
    "shorter_side", 224, crop=224 / 256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


class Files:
    """JPEG files, repeated."""

    class_names, labels, annotations = (), None, None

    def __init__(self, paths: list[str], n: int):
        self.paths, self.n = paths, n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return decode(self.paths[i % len(self.paths)]), -1

    def fingerprint_fields(self):
        return {"n": self.n}


class Noise:
    """Small images, made as they are asked for."""

    class_names, labels, annotations = (), None, None

    def __init__(self, n: int):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8), -1

    def fingerprint_fields(self):
        return {"n": self.n}


class Tiny(nn.Module):
    """A convolution of 64 neurons and a head."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(64, (3, 3), (4, 4), name="conv")(x))
        return nn.Dense(10, name="head")(jnp.mean(x, (1, 2)))


def photographs(folder: Path, n: int) -> list[str]:
    """Writes pictures of 500×375 pixels with detail at every scale, some 60 kB each."""
    rng, paths = np.random.default_rng(0), []
    for i in range(n):
        image = np.zeros((375, 500, 3))
        for scale in (4, 16, 64, 250):
            small = rng.normal(size=(max(2, 375 * scale // 500), scale, 3)).astype(np.float32)
            for c in range(3):
                layer = Image.fromarray(small[..., c]).resize((500, 375), Image.Resampling.BICUBIC)
                image[..., c] += np.asarray(layer) * 60 / scale**0.4
        paths.append(str(folder / f"{i:04d}.jpg"))
        Image.fromarray(np.clip(image + 128, 0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def network() -> Model:
    """The network with random parameters: time does not depend on them."""
    module = resnet.ResNet(getattr(resnet, _NETWORK.value)())
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    names = tuple(str(i) for i in range(1000))
    return Model(_NETWORK.value, module, variables, FIT, names, resnet.ALIASES, "none")


def torch_round(paths: list[str], n: int) -> Callable[[], None]:
    """torch's DataLoader, Pillow and transformers' network of the same shape."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import ResNetConfig, ResNetForImageClassification

    small = _NETWORK.value == "resnet18"
    widths = (64, 128, 256, 512) if small else (256, 512, 1024, 2048)
    config = ResNetConfig(
        embedding_size=64,
        hidden_sizes=list(widths),
        depths=[2, 2, 2, 2] if small else [3, 4, 6, 3],
        layer_type="basic" if small else "bottleneck",
    )
    config.num_labels = 1000
    net = ResNetForImageClassification(config).eval()
    held: list[torch.Tensor] = []
    for module in (net.resnet.embedder, *net.resnet.encoder.stages):
        module.register_forward_hook(lambda _, __, out: held.append(out.mean((2, 3))))
    mean, std = (torch.tensor(x).reshape(1, 3, 1, 1) for x in (FIT.mean, FIT.std))

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return n

        def __getitem__(self, i):
            image = np.asarray(Image.open(paths[i % len(paths)]).convert("RGB"))
            return torch.from_numpy(np.ascontiguousarray(FIT.fit(image)))

    def run() -> None:
        loader = torch.utils.data.DataLoader(
            Data(), batch_size=_BATCH.value, num_workers=os.cpu_count() or 1
        )
        with torch.inference_mode():
            for images in loader:
                held.clear()
                x = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
                net(x).logits.argmax(1).numpy()
                [value.numpy() for value in held]

    return run


def speed() -> None:
    """Prints the rates."""
    n, mesh, model = _IMAGES.value, make_mesh(1), network()
    how = Decoding(_WORKERS.value)
    readings = {"net": Reading(model, dict.fromkeys(TAPS, "avg"))}
    with tempfile.TemporaryDirectory() as place:
        if _FOLDER.value:
            paths = sorted(str(p) for p in Path(_FOLDER.value).rglob("*.jp*g"))
        else:
            paths = photographs(Path(place), min(n, 256))
        source = Files(paths, n)
        batch = np.zeros((_BATCH.value, 224, 224, 3), np.uint8)
        compiled = reader(readings["net"]).lower(model.variables, batch).compile()

        def decode_only() -> float:
            began = time.perf_counter()
            for _ in batches(source, {"net": FIT}, _BATCH.value, how=how):
                pass
            return n / (time.perf_counter() - began)

        def network_only() -> float:
            steps, began = max(1, n // _BATCH.value), time.perf_counter()
            for _ in range(steps):
                jax.block_until_ready(compiled(model.variables, batch))
            return steps * _BATCH.value / (time.perf_counter() - began)

        def both() -> float:
            with tempfile.TemporaryDirectory() as folder:
                parts = missing_parts(epath.Path(folder), n, arrays_of(readings))
                arguments = (readings, source, mesh, epath.Path(folder), Pass(_BATCH.value, how))
                rates = read_images(*arguments, parts)
            return rates.images / rates.seconds

        by_torch = torch_round(paths, n)

        def torch_both() -> float:
            began = time.perf_counter()
            by_torch()
            return n / (time.perf_counter() - began)

        found: dict[str, float] = {}
        for _ in range(_ROUNDS.value):
            for name, measure in (
                ("decode", decode_only),
                ("network", network_only),
                ("both", both),
                ("torch", torch_both),
            ):
                found[name] = max(found.get(name, 0.0), measure())
    slower = min(found["decode"], found["network"])
    shared = 1 / (1 / found["decode"] + 1 / found["network"])
    print(f"{_NETWORK.value}, {n} images, {os.cpu_count()} cores, {jax.devices()[0].device_kind}")
    print("  ".join(f"{name} {rate:.1f}" for name, rate in found.items()), "images a second")
    print(f"both / slower half {both_of(found, slower)}, both / halves on the same cores ", end="")
    print(f"{both_of(found, shared)}, both / torch {both_of(found, found['torch'])}")


def both_of(found: dict[str, float], other: float) -> str:
    """The ratio of the whole pass to something else."""
    return f"{found['both'] / other:.2f}"


def memory(n: int) -> None:
    """Prints the most memory of a pass over so many images, and what the process had before it."""
    module = Tiny()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    fit = Preprocess("none", 32)
    model = Model("tiny", module, variables, fit, tuple("0123456789"), {}, "none")
    readings, source = {"net": Reading(model, {"conv": "avg"})}, Noise(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with tempfile.TemporaryDirectory() as place:
        folder = epath.Path(place) / "parts"
        parts = missing_parts(folder, n, arrays_of(readings))
        rates = read_images(readings, source, make_mesh(1), folder, Pass(256), parts)
        artifacts.write(epath.Path(place) / "whole", whole_arrays(readings, folder, n)["net"], {})
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = rates.images / rates.seconds
    print(f"{n} images: {most:.0f} MB, {before:.0f} MB before the pass; {rate:.0f} a second")


def main(_) -> None:
    """Measures."""
    if _HELD.value:
        memory(_HELD.value)
    elif _MEMORY.value:
        for n in (1_000, 100_000):
            subprocess.run([sys.executable, __file__, f"--held={n}"], check=True)
    else:
        speed()


if __name__ == "__main__":
    app.run(main)
