"""Editing every neuron of a layer: the batched suffix beside the network, one neuron at a time.

    python benchmarks/ablation.py [FOLDER] [--images 10000] [--sample 64] [--cpu]
    python benchmarks/ablation.py --shapes [NETWORK …] [--cpu]

FOLDER (by default JAXLE_TEST_DATA) holds cifar10/resnet20-12fca82f.th and
cifar10/test/CLASS/*.jpg. Claims: (1) setting a neuron to zero, per image and neuron, by
`jaxle.intervention.replacement` (suffix, or rank one where the tail is linear) beside the jitted
whole network, one neuron at a time, on one image at a time and on batches of the same images;
(2) the time of Top Impact over all neurons of three layers. One run, alternating, the least of
three; compilation is not counted in (1) and is in (2). With --shapes, (1) of ResNet-50's layer3 and
of the last MLP of ViT-B/16 (class token), or of the networks named; random weights.

CPU seconds on two cores that other programs used, too (--cpu):

    ResNet-20     all 112 neurons 9.0 and 7.2 times less; by layer 2.6 and 2.0, 5.8 and 4.4, 80 and
                  65: what remains to be run after layer1 is most of the network, and nothing but a
                  product after layer3. All suffixes of an image are 1.55 · 10⁹ floating-point
                  operations, all networks 9.1 · 10⁹: 5.9 times as many, and a rectifier after the
                  first convolution leaves no exact way with much fewer.
    ResNet-50     6.6 and 6.3 times less; the edits alone, 8 ms each, are at the rate of a large
                  product: 1.2 · 10⁹ operations, the convolutions that read layer3 left out.
    ViT-B/16      2,300 and 2,900 times less: 81 microseconds, of which the one pass that records is
                  73; the head and a norm of one token are what an edit costs.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.accelerator.networks import random_model  # noqa: E402
from benchmarks.ratios import ratio  # noqa: E402
from jaxle.images import decode
from jaxle.intervention.impact import mean_over_taps, top_impact
from jaxle.intervention.replacement import change, open_tail, record
from jaxle.intervention.temperature import fit_temperature
from jaxle.models import class_names, taps, zoo
from jaxle.models.model import Model

# network → images, and of each tap: pool, neurons
SHAPES = {
    "resnet50_imagenet": (4, {"layer3": ("avg", 64)}),
    "vit_b_16_imagenet": (4, {"encoder.layers.encoder_layer_11.mlp[1]": ("first", 3072)}),
    "resnet20_cifar10": (16, {"layer2": ("avg", 32), "layer3": ("avg", 64)}),
}


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", default=os.environ.get("JAXLE_TEST_DATA"))
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=64, help="images of the comparison")
    parser.add_argument("--taps", nargs="+", default=["layer1", "layer2", "layer3"])
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="count CPU seconds in (1), for a machine that others use too",
    )
    parser.add_argument(
        "--shapes",
        nargs="*",
        choices=SHAPES,
        help="other networks, random weights; none named: the two larger ones",
    )
    args = parser.parse_args()
    clock = time.process_time if args.cpu else time.perf_counter
    if args.shapes is not None:
        shapes(args.shapes or list(SHAPES)[:2], clock)
        return
    if not args.folder:
        parser.error("give the folder of images and weights, or set JAXLE_TEST_DATA")
    folder = Path(args.folder) / "cifar10"
    model = zoo.load_model("resnet20_cifar10", folder / "resnet20-12fca82f.th")
    assert isinstance(model, Model)
    images, labels = read(folder / "test", args.images)
    head(len(labels), clock)
    sums = np.zeros(3)
    for tap in args.taps:
        some = images[: args.sample], labels[: args.sample]
        seconds, neurons = compare(model, tap, "avg", *some, clock)
        sums += seconds * neurons
        row(f"{tap} ({neurons} neurons)", seconds)
    row("all neurons of an image", sums)
    tell("all neurons", sums)
    temperature = fit_temperature(model.logits(images[:1000]), labels[:1000]).value
    start = time.perf_counter()
    found = top_impact(
        model,
        dict.fromkeys(args.taps, "avg"),
        lambda i: images[i],
        labels,
        np.arange(len(labels)),
        temperature=temperature,
    )
    seconds, neurons = (
        time.perf_counter() - start,
        sum(len(impact.table) for impact in found.values()),
    )
    print(
        f"Top Impact: {neurons} neurons × {len(labels):,} images × {len(found)} layers "
        f"in {seconds:.1f} s (T = {temperature:.2f})"
    )
    print(
        f"{'share of the images':>22}: "
        + "  ".join(f"{beta:8.2%}" for beta in next(iter(found.values())).betas)
    )
    for tap, impact in found.items():
        print(
            f"{tap:>22}: "
            + "  ".join(f"{share:8.2%}" for share in impact.mean)
            + f"   ({impact.path}, {impact.n_without_effect} without effect)"
        )
    overall = mean_over_taps(
        [impact.table for impact in found.values()], [impact.total for impact in found.values()]
    )
    print(f"{'all':>22}: " + "  ".join(f"{share:8.2%}" for share in overall))


def read(folder: Path, n: int):
    files = [file for c in class_names.CIFAR10 for file in sorted((folder / c).iterdir())]
    files = [files[i] for i in np.random.default_rng(0).permutation(len(files))[:n]]
    return np.stack([decode(file) for file in files]), np.array(
        [class_names.CIFAR10.index(file.parent.name) for file in files]
    )


def shapes(names: list[str], clock) -> None:
    """(1) for networks of full shape with random weights."""
    for name in names:
        n_images, of = SHAPES[name]
        head(n_images, clock)
        model = random_model(name, "float32")
        side = model.preprocess.size
        images = np.random.default_rng(0).integers(0, 256, (n_images, side, side, 3), np.uint8)
        found = {}
        for tap, (pool, most) in of.items():
            labels = np.zeros(n_images, int)
            found[tap], neurons = compare(model, tap, pool, images, labels, clock, most)
            row(f"{name}, {tap.split('.')[-1]} ({neurons})", found[tap])
        for tap, seconds in found.items():
            tell(f"{name}, {tap}", seconds)


def head(n_images: int, clock) -> None:
    print(
        f"{n_images:,} images; {os.cpu_count()} cores {platform.machine()}, "
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    )
    unit = ("CPU " if clock is time.process_time else "") + "microseconds an image and neuron"
    print(
        f"{unit:37} {'batched':>9} {'a neuron at a time, one image':>31} {'… batches':>11}   ratios"
    )


def compare(model, tap: str, pool: str, images, labels, clock, most: int | None = None):
    """Seconds an image and neuron, and the number of neurons.

    Batched; whole network, one neuron and one image; whole network, one neuron, all images.
    """
    tail = open_tail(model, tap, pool, images[:4])
    site, neurons = taps.resolve(tap, model.sites, model.aliases), np.arange(tail.n_neurons)[:most]
    index = np.arange(len(images))

    def put(value, k):
        return value.at[:, 0, k].set(0) if pool == "first" else value.at[..., k].set(0)

    @jax.jit
    def whole(variables, images, k):
        x = model.preprocess.normalise(images)
        return taps.forward(
            model.module, variables, x, replace={site: lambda value: put(value, k)}
        )[0]

    def batched():
        for _, recorded in record(tail, lambda i: images[i], labels, index):
            zero = np.zeros((len(recorded.labels), len(neurons)), np.float32)
            jax.block_until_ready(change(tail, recorded, zero, neurons, 1.0))

    one, several = min(8, len(images)), neurons[:: max(1, len(neurons) // 8)]

    def by_image():
        for k in several[:4]:
            for i in range(one):
                whole(model.variables, images[i : i + 1], k).block_until_ready()

    def by_neuron():
        for k in several:
            whole(model.variables, images, k).block_until_ready()

    ways = (
        (batched, len(neurons) * len(images)),
        (by_image, len(several[:4]) * one),
        (by_neuron, len(several) * len(images)),
    )
    for run, _ in ways:
        run()
    best = [
        min(times)
        for times in zip(
            *([timed(run, clock) / n for run, n in ways] for _ in range(3)), strict=True
        )
    ]
    return np.array(best), len(neurons)


def timed(run, clock) -> float:
    start = clock()
    run()
    return clock() - start


def row(name: str, seconds) -> None:
    batched, by_image, by_neuron = 1e6 * np.asarray(seconds)
    print(
        f"{name:37} {batched:9.1f} {by_image:31.1f} {by_neuron:11.1f}   "
        f"{by_image / batched:.1f}×, {by_neuron / batched:.1f}×",
        flush=True,
    )


def tell(name: str, seconds) -> None:
    batched, by_image, by_neuron = seconds
    ratio(f"{name}, one neuron and image at a time / batched", by_image / batched)
    ratio(f"{name}, one neuron at a time / batched", by_neuron / batched)


if __name__ == "__main__":
    main()
