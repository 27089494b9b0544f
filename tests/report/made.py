"""A report of made arrays: every part that a page can have, under names that try to break it.

    arrays → jaxle.report's own functions → index.html, assets, data, sprites

Two layers of eight neurons, two methods, two simulators, 48 pictures; made in half a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from etils import epath

from jaxle import Explanation, Explanations
from jaxle.report import overview, sprites
from jaxle.report.alike import find_alike
from jaxle.report.bins import RANKS, activation_bins, images_of_bins, images_of_ranks
from jaxle.report.details import Beside, Entry, Pictures, details
from jaxle.report.pages import write_pages
from jaxle.report.shards import Shards, numbers, write_shard

UNTRUSTED = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "quotes \"double\" 'single' & `ticks` \\ </script>",
    "🦊 fox 👩‍👩‍👧",
    "כלב גדול",
    "قطة \u202eتلعب",  # right to left, and a control of direction
    "x" * 300,
    "50 % of it, #1? a/b",
)
TAPS = ("layer1", "a/b <i>\"&' ☃ עץ")
METHODS = ("label", "<b>ours</b>")
SIMULATORS = ("labels", "sig&lip")
NEURONS, IMAGES, SIDE = 8, 48, 24
FLAGS = ("", "dead", "constant", "unexplained", "unconverged", "", "", "")
ROWS = [{"tap": t, "method": m, "simulator": s} for t in TAPS for m in METHODS for s in SIMULATORS]


def image_name(number: int) -> str:
    """Returns the name of an image: the untrusted texts in turn."""
    return f"{number} {UNTRUSTED[number % len(UNTRUSTED)]}"


def write_made_report(path: Path, images: str = "thumbnails", against: bool = False) -> None:
    """Writes the report.

    Args:
      path: of the report.
      images: none, thumbnails or all, as `config.report.images`.
      against: beside itself, as another run.
    """
    folder, rng = epath.Path(path), np.random.default_rng(0)
    words = {name: i for i, name in enumerate(UNTRUSTED)}
    real = rng.gamma(2.0, 0.5, (IMAGES, len(TAPS) * NEURONS)).astype(np.float32)
    facts = _facts(rng)
    facts["against"] = against
    facts["pictures"] = _write_pictures(folder, images, rng)
    near = {method: find_alike(real) for method in METHODS}
    with Shards(folder) as shards:
        shards.write("run", facts)
        shards.write("images", [image_name(i) for i in range(IMAGES)])
        shards.write("map", {method: numbers(found.place) for method, found in near.items()})
        for place, tap in enumerate(TAPS):
            own = real[:, place * NEURONS : (place + 1) * NEURONS]
            tables = {method: _explanations(rng) for method in METHODS}
            numbers_of = [i for i, row in enumerate(ROWS) if row["tap"] == tap]
            scores = {i: _scores(rng) for i in numbers_of}
            pictures = _pictures(own, rng)
            table = overview.layer_table(tables, scores, own, words)
            table["top"] = pictures.by_rank[:, 0, : overview.TOP].tolist()
            shards.write(f"layers/{place}", table)
            entries = {i: _entry(own, pictures, rng) for i in numbers_of}
            pages = details(pictures, entries, _beside(tables), int, np.arange(0, IMAGES, 2))
            shards.write(f"neurons/{place}/0", list(pages))
    stages = ("probe", "score", "report")
    write_shard(folder, "timing", {"seconds": dict.fromkeys(stages, 1.5), "compile_seconds": 2.0})
    write_pages(folder, facts["name"], [f"a line of {UNTRUSTED[0]}"])
    if against:
        for name in ("run.js", "layers/0.js", "layers/1.js"):
            (folder / "against/data/layers").mkdir(parents=True, exist_ok=True)
            text = (folder / "data" / name).read_text()
            (folder / "against/data" / name).write_text(text.replace("made of", "second of"))


def _explanations(rng: np.random.Generator) -> Explanations:
    """Each neuron begins with a name of its own; the fourth has none, the last has all."""
    rows = []
    for k in range(NEURONS):
        n = {3: 0, NEURONS - 1: len(UNTRUSTED)}.get(k, 3)
        names = [UNTRUSTED[(k + j) % len(UNTRUSTED)] for j in range(n)]
        weights = np.sort(rng.normal(0, 1, n))[::-1].round(4).tolist()
        rows.append(Explanation(k, tuple(names), tuple(weights), 0.25, 0.6, FLAGS[k]))
    return Explanations(tuple(rows))


def _scores(rng: np.random.Generator) -> pd.DataFrame:
    rho = rng.uniform(0.2, 0.9, NEURONS)
    columns = {"correlation": rho, "correlation_low": rho - 0.1, "correlation_high": rho + 0.1}
    more = ("ceiling", "control_p_value", "monosemanticity", "counterfactual_agreement")
    ablation = ("ablation_excess", "ablation_optim", "ablation_norm", "ablation_constant")
    columns |= {name: rng.uniform(0, 1, NEURONS) for name in (*more, *ablation)}
    columns |= {"few_positives": (np.arange(NEURONS) == 2).astype(int)}
    return pd.DataFrame(columns)


def _pictures(real: np.ndarray, rng: np.random.Generator) -> Pictures:
    bins = [activation_bins(column) for column in real.T]
    shown = [images_of_bins(c, b, 5) for c, b in zip(real.T, bins, strict=True)]
    ranks = [images_of_ranks(column, RANKS, 5) for column in real.T]
    pictures = Pictures(
        real=real,
        by_bin=np.stack(shown),
        by_rank=np.stack(ranks),
        edges=np.stack([b.edges for b in bins]),
        histogram=np.stack([np.histogram(column, 32)[0] for column in real.T]),
    )
    maps = rng.integers(0, 256, (*pictures.rows.shape, 5, 5), np.uint8)
    return Pictures(pictures.real, pictures.by_bin, pictures.by_rank, pictures.edges,
                    pictures.histogram, maps)  # fmt: skip


def _entry(real: np.ndarray, pictures: Pictures, rng: np.random.Generator) -> Entry:
    simulated = (real + rng.normal(0, 0.2, real.shape)).astype(np.float32)
    order = np.argsort(simulated - real, axis=0)
    shown, slots = pictures.rows.shape[1] + 10, len(UNTRUSTED)
    return Entry(
        simulated=simulated,
        over=order[::-1][:5].T,
        under=order[:5].T,
        probs=rng.uniform(0, 1, (NEURONS, shown, slots)),
        shares=rng.uniform(0, 1, (NEURONS, 8, slots)),
    )


def _beside(tables: dict[str, Explanations]) -> Beside:
    near = {m: [[[(k + 1) % NEURONS, 0.9], [NEURONS, 0.4]] for k in range(NEURONS)] for m in tables}
    parts = {
        method: {
            "leave_one_out labels": [[0.1] * len(row.concepts) for row in table],
            "selection_frequency": [[0.5] * len(row.concepts) for row in table],
            "equivalent": [[" | ".join(UNTRUSTED[:2])] * len(row.concepts) for row in table],
        }
        for method, table in tables.items()
    }
    pushes = [[[name, 0.5] for name in UNTRUSTED[:5]]] * NEURONS
    return Beside(near, parts, pushes)


def _write_pictures(folder: epath.Path, kind: str, rng: np.random.Generator) -> dict[str, Any]:
    found = {"n": IMAGES, "kind": kind, "columns": sprites.COLUMNS, "stored": 0, "large": 0}
    if kind == "none":
        return found
    images = rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8)
    sheets = sprites.write_sheets(folder, images.__getitem__, IMAGES, SIDE, 1 << 20)
    found |= {"side": sheets.side, "stored": sheets.n}
    if kind == "all":
        found["large"] = sprites.write_large(folder, images.__getitem__, sheets.n, 1 << 20)
    return found


def _facts(rng: np.random.Generator) -> dict[str, Any]:
    share = {"n_neurons": NEURONS, "n_dead": 1, "n_unexplained": 1, "n_unconverged": 1}
    trust = {"n_controls": 2, "n_better": 5, "better_q": 0.05, "better_probability": 0.9,
             "better_probability_low": 0.8, "better_probability_high": 0.95, "excess": 0.4,
             "excess_low": 0.3, "excess_high": 0.5, "untrained_mean_correlation": 0.1}  # fmt: skip
    means = {"mean_correlation": 0.6, "mean_correlation_low": 0.5, "mean_correlation_high": 0.7,
             "sem_correlation": 0.05, "mean_ceiling": 0.8, "mean_length": 3.1,
             "mean_specificity": 0.4, "retrieval_at_1": 0.75, "mean_ablation_excess": 0.02,
             "mean_counterfactual_agreement": 0.9}  # fmt: skip
    paired = {"against": METHODS[1], "mean": 0.01, "mean_low": -0.01, "mean_high": 0.03}
    summary = {
        "model": f"net {UNTRUSTED[0]}", "source": f"data {UNTRUSTED[3]}", "n_images": 240,
        "n_train": 160, "n_val": 32, "n_test": IMAGES, "weights_sha256": "0" * 64,
        "top1_accuracy": 0.9, "platform": "cpu", "n_devices": 1, "jaxle": "0.1", "jax": "0.9",
        "config_fingerprint": "0123456789abcdef", "notes": [f"A note of {UNTRUSTED[6]}"],
        "encoders": {UNTRUSTED[2]: {"scale": 30.0, "shift": -0.1, "source": UNTRUSTED[4]}},
        "results": [{**row, **share, **trust, **means} for row in ROWS],
        "comparisons": [{**row, **paired, "share_a_better": 0.4} for row in ROWS],
    }  # fmt: skip
    curve = {"share_of_images": [0.01, 0.1, 1.0], "top_impact": [0.1, 0.5, 1.0]}
    rho = rng.uniform(0, 0.3, NEURONS).tolist()
    return {
        "format": 1,
        "name": f"made of {UNTRUSTED[1]}",
        "summary": summary,
        "config": {"data": {"source": UNTRUSTED[0]}},
        "tables": {f"{UNTRUSTED[2]}/scores.csv": "0" * 64},
        "layers": [{"tap": tap, "first": i * NEURONS, "n": NEURONS} for i, tap in enumerate(TAPS)],
        "methods": list(METHODS),
        "best": [ROWS[0]["method"], ROWS[0]["simulator"]],
        "rows": ROWS,
        "columns": {},
        "words": list(UNTRUSTED),
        "present": {method: [0.5] * len(UNTRUSTED) for method in METHODS},
        "calibration": [{"encoder": UNTRUSTED[2], "scale": 1.0, "shift": 0.0, "ece": 0.01,
                         "predicted": [0.1, 0.9], "observed": [0.2, 0.8], "count": [5, 5]}],
        "impact": [{"tap": tap, **curve} for tap in TAPS],
        "controls": [{**row, "network": "untrained 1", "correlation": rho} for row in ROWS],
        "paper": [{"tap": TAPS[0], "method": UNTRUSTED[0], "correlation": 0.3}],
        "lines": [],
    }  # fmt: skip
