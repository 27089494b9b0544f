"""CLIP-Dissect of a whole layer: time a neuron and peak memory, beside a plain PyTorch loop.

    python benchmarks/clip_dissect.py

soft-WPMI of 2,048 neurons, 20,000 concepts and 50,000 images, on made embeddings of 512 numbers.
Each side runs in a process of its own, one after the other, and reports the peak of its resident
memory. CPU time is that of all cores together, on which other programs have less influence. jaxle's
time includes compilation; the best of the calls after it is "warm". The loop is written as the
method is usually written: it holds the softmax of images × concepts, and goes over the neurons one
by one. It is run on `--loop-neurons` of them; what it does once for all neurons is shared over all,
and the sum over neurons is left out.
Both must name the same concept where the likelihoods alone decide (discount 0).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ratios import ratio  # noqa: E402

SIZES = {"neurons": 2048, "concepts": 20_000, "images": 50_000, "numbers": 512, "loop-neurons": 64}
TOP, SHARPNESS, FIRST, LAST = 100, 10.0, 0.998, 0.97


def made(sizes: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations, image and text embeddings; every neuron follows one text, with noise."""
    rng = np.random.default_rng(0)
    images, texts = (
        rng.normal(size=(n, sizes.numbers)).astype(np.float32)
        for n in (sizes.images, sizes.concepts)
    )
    for x in (images, texts):
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    followed = texts[rng.integers(0, sizes.concepts, sizes.neurons)]
    activations = np.empty((sizes.images, sizes.neurons), np.float32)
    for start in range(0, sizes.images, 4096):
        block = images[start : start + 4096] @ followed.T
        block += 0.03 * rng.standard_normal(block.shape, np.float32)
        activations[start : start + 4096] = np.maximum(block, 0)
    return activations, images, texts


def jaxle_side(sizes: argparse.Namespace) -> dict:
    """All neurons, and the first ones with discount 0."""
    from jaxle.explainers.clip_dissect import describe

    activations, images, texts = made(sizes)
    names = [str(j) for j in range(sizes.concepts)]
    before, began = peak(), clocks()
    describe(activations, images, texts, names)
    seconds, most = clocks() - began, peak()
    warm = []
    while not warm or (len(warm) < 5 and np.sum(warm) < 4):  # wall and CPU seconds together
        began = clocks()
        describe(activations, images, texts, names)
        warm.append(clocks() - began)
    some = activations[:, : sizes.loop_neurons]
    alone = describe(some, images, texts, names, discount=0.0)
    found = [int(row.concepts[0]) for row in alone]
    own = {"seconds": seconds.tolist(), "warm": np.min(warm, axis=0).tolist()}
    return own | {"before": before, "peak": most, "found": found}


def torch_side(sizes: argparse.Namespace) -> dict:
    """The loop over the first neurons."""
    import torch  # pyright: ignore[reportMissingImports]

    activations, images, texts = (torch.from_numpy(x) for x in made(sizes))
    before, began = peak(), clocks()
    shares = images @ texts.T
    for block in shares.split(4096):
        block.copy_(torch.softmax(SHARPNESS * block, dim=1))
    once = clocks() - began
    inside = FIRST - torch.arange(TOP)[:, None] / TOP * (FIRST - LAST)
    found, began = [], clocks()
    for k in range(sizes.loop_neurons):
        top = torch.topk(activations[:, k], TOP).indices
        likelihood = torch.log(1 + inside * (shares[top] - 1) + 1e-7).sum(0)
        found.append(int(likelihood.argmax()))
    each = (clocks() - began) / sizes.loop_neurons
    seconds = once + each * sizes.neurons
    return {"seconds": seconds.tolist(), "before": before, "peak": peak(), "found": found}


def clocks() -> np.ndarray:
    """Seconds of the wall's clock, and of all cores for this process alone."""
    return np.array([time.perf_counter(), time.process_time()])


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


SIDES = {"jaxle": jaxle_side, "torch": torch_side}


def main() -> None:
    """Runs both sides and prints the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--side", choices=SIDES)
    sizes = parser.parse_args()
    if sizes.side:
        print(json.dumps(SIDES[sizes.side](sizes)))
        return
    found = {}
    for side in SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{sizes.neurons} neurons, {sizes.concepts} concepts, {sizes.images} images of "
        f"{sizes.numbers} numbers; {os.cpu_count()} cores"
    )
    print("side    ms a neuron   CPU ms a neuron   peak GB   of which inputs GB")
    for side, own in found.items():
        wall, cpu = (1000 * seconds / sizes.neurons for seconds in own["seconds"])
        print(f"{side:<7}{wall:>12.2f}{cpu:>18.2f}{own['peak']:>10.2f}{own['before']:>14.2f}")
    wall, cpu = np.divide(found["torch"]["seconds"], found["jaxle"]["seconds"])
    print(f"torch / jaxle: {wall:.2f} in time, {cpu:.2f} in CPU time")
    busy = found["torch"]["seconds"][1] / found["jaxle"]["warm"][1]
    ratio("torch / jaxle warm, CPU seconds", busy)
    more = found["jaxle"]["peak"] - found["jaxle"]["before"]
    ratio("peak memory above inputs, MB", 1000 * more)
    same = np.mean(np.equal(found["torch"]["found"], found["jaxle"]["found"]))
    print(f"same concept without the sum over neurons: {same:.1%} of {sizes.loop_neurons}")


if __name__ == "__main__":
    main()
