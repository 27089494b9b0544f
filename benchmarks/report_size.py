"""The report of a large layer: seconds, bytes and memory of making it, and how soon pages open.

    python benchmarks/report_size.py FOLDER [--neurons 10000] [--images 50000] [--no-pages]

Makes images (32 × 32, each a sum of some of 500 textures, which are its labels) and a network of
one wide convolution, runs the launcher on them, and makes the report again in a process of its own,
whose peak memory it states. With playwright and Chromium (CHROMIUM names it) it opens the page from
disk and measures how long the front page, the table and a neuron take until they are drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from benchmarks.ratios import cpu, ratio  # noqa: E402

CONCEPTS, PER_IMAGE = 500, 4
NETWORK = """
import flax.linen as nn
import jax.numpy as jnp


class Wide(nn.Module):
    neurons: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(self.neurons, (8, 8), strides=(8, 8), padding="VALID", name="wide")(x))
        return nn.Dense(10, name="head")(jnp.mean(x, axis=(1, 2)))
"""
CONFIG = """
from jaxle.pipeline import defaults


def get_config():
    config = defaults.get_config()
    config.data.source = "arrays:{folder}/images"
    config.target.model = "wide_network:Wide"
    config.target.weights = "{folder}/wide.npz"
    config.target.arguments = {{"neurons": {neurons}}}
    config.target.preprocess = {{"resize": "none", "size": 32}}
    config.target.class_names = tuple("abcdefghij")
    config.target.taps = ("wide",)
    config.evaluation.controls = 1
    config.evaluation.draws = 100
    config.evaluation.permutations = 0
    return config
"""


def make_inputs(folder: Path, n_images: int, n_neurons: int) -> None:
    """Writes images and their labels, the network and the config."""
    rng = np.random.default_rng(0)
    place = folder / "images"
    place.mkdir(parents=True, exist_ok=True)
    textures = rng.normal(0, 40, (CONCEPTS, 32, 32, 3)).astype(np.float32)
    shown = np.zeros((n_images, CONCEPTS), np.uint8)
    images = np.lib.format.open_memmap(place / "images.npy", "w+", np.uint8, (n_images, 32, 32, 3))
    for i in range(n_images):
        those = rng.choice(CONCEPTS, PER_IMAGE, replace=False)
        shown[i, those] = 1
        images[i] = np.clip(128 + textures[those].sum(axis=0), 0, 255)
    images.flush()
    np.save(place / "concept_labels.npy", shown)
    names = "".join(f"texture {j}\n" for j in range(CONCEPTS))
    (place / "concepts.txt").write_text(names)
    weights = {
        "params/wide/kernel": rng.normal(0, 0.1, (8, 8, 3, n_neurons)),
        "params/wide/bias": np.zeros(n_neurons),
        "params/head/kernel": rng.normal(0, 0.1, (n_neurons, 10)),
        "params/head/bias": np.zeros(10),
    }
    np.savez(folder / "wide.npz", **{name: x.astype(np.float32) for name, x in weights.items()})
    (folder / "wide_network.py").write_text(NETWORK)
    (folder / "wide.py").write_text(CONFIG.format(folder=folder, neurons=n_neurons))


def launch(folder: Path, *arguments: str) -> dict[str, float]:
    """Runs jaxle in a process of its own; returns its seconds, CPU seconds and peak GB."""
    began, busy = time.monotonic(), cpu()
    command = [sys.executable, "-c", MEASURED, *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    seconds, busy = time.monotonic() - began, cpu() - busy
    return {"seconds": seconds, "busy": busy, "peak_gb": float(done.stdout.split()[-1])}


MEASURED = """
import resource, sys
from jaxle import launch
try:
    launch.run()
except SystemExit as end:
    assert not end.code, end.code
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def sizes(report: Path) -> dict[str, float]:
    """MB of the report's parts."""
    of = lambda place: sum(p.stat().st_size for p in place.rglob("*") if p.is_file()) / 2**20  # noqa: E731
    bulk = (report / "report.jsonl.gz").stat().st_size / 2**20
    parts = {name: of(report / name) for name in ("data", "sprites")}
    return {**parts, "bulk": bulk, "all": of(report)}


def pages(report: Path, neuron: int) -> dict[str, float]:
    """Seconds until each view is drawn in Chromium, opened from disk."""
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    found = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, place in (
            ("front", "#/"),
            ("table", "#/neurons"),
            ("neuron", "#/neuron/wide/0"),
        ):
            page = browser.new_page()
            page.goto("about:blank")
            began = time.monotonic()
            page.goto(f"file://{report}/index.html{place}")
            page.wait_for_selector("main h1")
            found[name] = time.monotonic() - began
            if name == "front":  # from the front page on, everything is loaded
                began = time.monotonic()
                page.evaluate(f"location.hash = '#/neuron/wide/{neuron}'")
                page.wait_for_selector(".ranks")
                found["neuron, from there"] = time.monotonic() - began
            page.close()
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--neurons", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument(
        "--pages",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the report where playwright is installed",
    )
    own = parser.parse_args()
    folder = own.folder.resolve()
    if not (folder / "wide.py").exists():
        make_inputs(folder, own.images, own.neurons)
    whole = launch(folder, "--config", "wide.py", "--config.workdir=run")
    timing = json.loads((folder / "run" / "timing.json").read_text())["seconds"]
    start, again = launch(folder, "--help"), launch(folder, "report", "run")
    print(f"{own.neurons} neurons, {own.images} images, of which a fifth are shown from")
    print(
        f"run: {whole['seconds']:.0f} s, peak {whole['peak_gb']:.1f} GB; seconds a stage {timing}"
    )
    print(f"report again: {again['seconds']:.0f} s, peak {again['peak_gb']:.1f} GB")
    found = sizes(folder / "run" / "report")
    print("MB:", {name: round(size, 1) for name, size in found.items()})
    ratio("the report / jaxle's help, CPU seconds", again["busy"] / start["busy"])
    ratio("peak memory above that of the help, MB", 1024 * (again["peak_gb"] - start["peak_gb"]))
    ratio("kB of the report a neuron", 1024 * found["all"] / own.neurons)
    if not own.pages:
        return
    try:
        drawn = pages(folder / "run" / "report", own.neurons // 2)
        print("drawn after s:", {k: round(v, 2) for k, v in drawn.items()})
    except ImportError:
        print("no playwright: pages were not opened")


if __name__ == "__main__":
    main()
