"""The pass over the images: how fast it is beside its halves and beside torch, and what it holds.

    python benchmarks/probe.py                       # ResNet-18 at 224, 512 photographs of 500×375
    python benchmarks/probe.py --network=resnet50 --folder=PATH/TO/JPEGS
    python benchmarks/probe.py --memory              # 1,000 and 100,000 images of 32×32 (--counts)

Rates, in images a second on all cores, the best of some rounds in which all take turns, so that
other load on the machine falls on all:

    decode    read, decode and resize, no network
    network   the same batch again and again, no images
    both      `pipeline.image_pass.read_images`: activations of five taps, parts written to disk
    torch     torch's DataLoader and the same network, whose taps hooks average

Where the network computes on the cores that decode, `both` cannot reach the slower half: the best
is 1 / (1 / decode + 1 / network), which is shown too, and so are ratios in CPU seconds. `--memory`
starts a process for each number of images and shows the most memory that each had (resident), the
whole arrays written at the end.
"""

from __future__ import annotations

import argparse
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
from etils import epath
from PIL import Image

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks import ratios  # noqa: E402
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


def network(name: str) -> Model:
    """The network with random parameters: time does not depend on them."""
    module = resnet.ResNet(getattr(resnet, name)())
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    names = tuple(str(i) for i in range(1000))
    return Model(name, module, variables, FIT, names, resnet.ALIASES, "none")


def torch_round(paths: list[str], n: int, name: str, batch: int) -> Callable[[], None]:
    """torch's DataLoader, Pillow and transformers' network of the same shape."""
    import torch  # pyright: ignore[reportMissingImports]
    from transformers import ResNetConfig, ResNetForImageClassification

    small = name == "resnet18"
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
            Data(), batch_size=batch, num_workers=os.cpu_count() or 1
        )
        with torch.inference_mode():
            for images in loader:
                held.clear()
                x = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
                net(x).logits.argmax(1).numpy()
                [value.numpy() for value in held]

    return run


def speed(own: argparse.Namespace) -> None:
    """Prints the rates."""
    n, mesh, model = own.images, make_mesh(1), network(own.network)
    how = Decoding(own.workers)
    readings = {"net": Reading(model, dict.fromkeys(TAPS, "avg"))}
    with tempfile.TemporaryDirectory() as place:
        if own.folder:
            paths = sorted(str(p) for p in Path(own.folder).rglob("*.jp*g"))
        else:
            paths = photographs(Path(place), min(n, 256))
        source = Files(paths, n)
        batch = np.zeros((own.batch, 224, 224, 3), np.uint8)
        compiled = reader(readings["net"]).lower(model.variables, batch).compile()

        def decode_only() -> float:
            began = time.perf_counter()
            for _ in batches(source, {"net": FIT}, own.batch, how=how):
                pass
            return n / (time.perf_counter() - began)

        def network_only() -> float:
            steps, began = max(1, n // own.batch), time.perf_counter()
            for _ in range(steps):
                jax.block_until_ready(compiled(model.variables, batch))
            return steps * own.batch / (time.perf_counter() - began)

        def both() -> float:
            with tempfile.TemporaryDirectory() as folder:
                parts = missing_parts(epath.Path(folder), n, arrays_of(readings))
                arguments = (readings, source, mesh, epath.Path(folder), Pass(own.batch, how))
                rates = read_images(*arguments, parts)
            return rates.images / rates.seconds

        by_torch = torch_round(paths, n, own.network, own.batch)

        def torch_both() -> float:
            began = time.perf_counter()
            by_torch()
            return n / (time.perf_counter() - began)

        found: dict[str, float] = {}
        busy: dict[str, float] = {}
        for _ in range(own.rounds):
            for name, measure in (
                ("decode", decode_only),
                ("network", network_only),
                ("both", both),
                ("torch", torch_both),
            ):
                start = ratios.cpu()
                found[name] = max(found.get(name, 0.0), measure())
                busy[name] = min(busy.get(name, np.inf), ratios.cpu() - start)
    slower = min(found["decode"], found["network"])
    shared = 1 / (1 / found["decode"] + 1 / found["network"])
    print(f"{own.network}, {n} images, {os.cpu_count()} cores, {jax.devices()[0].device_kind}")
    print("  ".join(f"{name} {rate:.1f}" for name, rate in found.items()), "images a second")
    print(f"both / slower half {both_of(found, slower)}, both / halves on the same cores ", end="")
    print(f"{both_of(found, shared)}, both / torch {both_of(found, found['torch'])}")
    halves = busy["decode"] + busy["network"]
    ratios.ratio("decode + network / the pass, CPU seconds", halves / busy["both"])
    ratios.ratio("torch / the pass, CPU seconds", busy["torch"] / busy["both"])


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
    ratios.ratio(f"memory of a pass over {n} images, MB", most - before)


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=("resnet18", "resnet50"), default="resnet18")
    parser.add_argument("--folder", help="of JPEG images; otherwise they are made")
    parser.add_argument("--images", type=int, default=512, help="images a round")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of each")
    parser.add_argument(
        "--workers", type=int, default=0, help="decoding processes of jaxle; 0: threads"
    )
    parser.add_argument("--memory", action="store_true", help="memory in place of speed")
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[1_000, 100_000],
        help="images of each pass of --memory",
    )
    parser.add_argument("--held", type=int, default=0, help=argparse.SUPPRESS)  # one such pass
    own = parser.parse_args()
    if own.held:
        memory(own.held)
    elif own.memory:
        found = {}
        for n in own.counts:
            command = [sys.executable, __file__, f"--held={n}"]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(done.stdout, end="", flush=True)
            found |= ratios.read(done.stdout)
        first, *_, last = found.values()
        ratios.ratio("memory of the last pass / of the first", last / first)
    else:
        speed(own)


if __name__ == "__main__":
    main()
