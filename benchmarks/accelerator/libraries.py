"""The same work by other libraries, on the same device where they have one.

    torch           the forward pass of ResNet-50 and of SigLIP-L/16-384's image tower; a step of
                    GLM-SAGA, with which the paper's code fits a neuron
    cuML, skglm     one neuron's elastic net on the images

A library that is not installed says so in its row.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import problems
from benchmarks.accelerator.section import GIB, Out
from benchmarks.accelerator.table import short
from benchmarks.rivals import L1, L1_RATIO, L2, LAM, TOL

BATCH, EPOCHS = 256, 200  # of GLM-SAGA: images a step, passes over the images
STEPS = 100  # measured


def measure(out: Out) -> dict[str, str] | None:
    """Rows of the table "libraries"; returns the peak of torch's memory on the device."""
    for library, parts in {
        "torch": (_forward, _saga),
        "cuml": (_cuml,),
        "skglm": (_skglm,),
    }.items():
        if importlib.util.find_spec(library) is None:
            out.row("libraries", {"what": library, "theirs": "not installed"})
            continue
        for part in parts:
            part(out)
    if (torch := sys.modules.get("torch")) is None or not torch.cuda.is_available():
        return None
    return {"device, GiB": short(torch.cuda.max_memory_allocated() / GIB)}


def _forward(out: Out) -> None:
    """The networks in torch, as they come (eager, TF32 where the card has it)."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = (
        (("ResNet-50", 64, 4), ("SigLIP-L/16-384", 32, 2))
        if out.small
        else (("ResNet-50", 224, 256), ("SigLIP-L/16-384", 384, 64))
    )
    for name, side, batch in cases:
        for dtype in ("bfloat16", "float32"):
            toy = " (toy)" * out.small
            what = f"{name}{toy}, {dtype}, images/s (torch {torch.__version__}, {device})"
            if not out.has(5):
                out.row("libraries", {"what": what, "theirs": "skipped: no time left"})
                continue
            network = _network(name, side, out.small).eval().to(device, getattr(torch, dtype))
            images = torch.randn(batch, 3, side, side, device=device, dtype=getattr(torch, dtype))
            if name == "ResNet-50":  # the faster layout of convolutions
                network = network.to(memory_format=torch.channels_last)
                images = images.to(memory_format=torch.channels_last)

            def run(network=network, images=images):
                with torch.inference_mode():
                    network(images)

            rate = batch / _seconds(run, torch, rounds=2 if out.small else 8)
            mine = out.known.get(f"{name}, {dtype}")
            out.row(
                "libraries",
                {
                    "what": what,
                    "theirs": short(rate),
                    "jaxle's": short(mine),
                    "theirs / jaxle's time": short(mine / rate) if mine else "",
                },
            )


def _network(name: str, side: int, small: bool) -> Any:
    """transformers' network of the same shape, weights as they are drawn."""
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    if name == "ResNet-50":
        config = ResNetConfig(depths=[1, 1, 1, 1]) if small else ResNetConfig()
        config.num_labels = 1000
        return ResNetForImageClassification(config)
    width, layers = (64, 2) if small else (1024, 24)
    config = SiglipVisionConfig(image_size=side, patch_size=16, hidden_size=width)
    config.intermediate_size, config.num_hidden_layers = 4 * width, layers
    config.num_attention_heads = 16
    return SiglipVisionModel(config)


def _saga(out: Out) -> None:
    """Seconds of a step of GLM-SAGA, as the paper's code takes it, and what a whole fit takes."""
    import torch  # pyright: ignore[reportMissingImports]

    device = "cuda" if torch.cuda.is_available() else "cpu"
    n, m, k = (1500, 200, 64) if out.small else (35_000, 8_438, 2_048)
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(n, m, device=device, generator=generator)
    step, batches = 1e-5, torch.randperm(n, device=device, generator=generator).split(BATCH)

    def steps(y, w, b, table, mean):
        for i in range(STEPS):
            rows = batches[i % len(batches)]
            xb = x[rows]
            residual = xb @ w + b - y[rows]
            change = residual - table[rows]
            gradient = xb.T @ change
            b -= step * (change.mean(0) + table.mean(0))
            w -= step * (gradient / len(rows) + mean)
            mean += gradient / n
            table[rows] = residual
            w.copy_(w.sign() * (w.abs() - step * L1).clamp(min=0) / (1 + step * L2))

    for width in (1, k):
        y = torch.randn(n, width, device=device, generator=generator)
        w, b = torch.zeros(m, width, device=device), torch.zeros(width, device=device)
        state = y, w, b, torch.zeros_like(y), torch.zeros_like(w)

        def run(state=state):
            steps(*state)

        seconds = _seconds(run, torch, rounds=2) / STEPS
        fit = seconds * EPOCHS * -(-n // BATCH) / width
        own = out.known.get("solver", 0.0) / out.known.get("solver_neurons", 1.0)
        together = "one neuron" if width == 1 else f"{width:,} neurons at once"
        out.row(
            "libraries",
            {
                "what": f"GLM-SAGA in torch, {device}, {together}: "
                f"{short(1e3 * seconds)} ms a step; {EPOCHS} epochs, ms a neuron, search left out",
                "theirs": short(1e3 * fit),
                "jaxle's": short(1e3 * own) if own else "",
                "theirs / jaxle's time": short(fit / own) if own else "",
            },
        )


def _seconds(run: Callable[[], None], torch, rounds: int) -> float:
    """The least seconds of some calls, after one that is not counted; the device has ended."""
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _problem(out: Out) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, and one neuron's activations."""
    sizes = (1500, 200, 4) if out.small else (35_000, 8_438, 4)
    features, targets = problems.similarity(*sizes)
    features -= features.mean(0)
    features /= features.std(0)
    return features, (targets[:, 0] - targets[:, 0].mean()) / targets[:, 0].std()


def _cuml(out: Out) -> None:
    from cuml.linear_model import ElasticNet  # pyright: ignore[reportMissingImports]

    _one(out, "cuML, one neuron's elastic net", ElasticNet, np.float32)


def _skglm(out: Out) -> None:
    from skglm import ElasticNet  # pyright: ignore[reportMissingImports]

    _one(out, "skglm, one neuron's elastic net, on the CPU", ElasticNet, np.float64)


def _one(out: Out, what: str, kind: type, dtype: type) -> None:
    features, target = _problem(out)
    features, target = features.astype(dtype), target.astype(dtype)
    model = kind(alpha=LAM, l1_ratio=L1_RATIO, tol=TOL, fit_intercept=False)
    model.fit(features[:200], target[:200])  # compiles
    start = time.perf_counter()
    model.fit(features, target)
    seconds = time.perf_counter() - start
    own = out.known.get("solver", 0.0) / out.known.get("solver_neurons", 1.0)
    out.row(
        "libraries",
        {
            "what": f"{what}, ms (the search left out)",
            "theirs": short(1e3 * seconds),
            "jaxle's": short(1e3 * own) if own else "",
            "theirs / jaxle's time": short(seconds / own) if own else "",
        },
    )
