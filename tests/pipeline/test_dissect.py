"""Overlaps of maps and masks in a run: the numbers are those from arrays, and no memory grows with
the images; cached; refused where masks or positions are missing."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxle.data.splits import Split
from jaxle.explainers.network_dissection import dissect
from jaxle.images import Preprocess
from jaxle.mesh import make_mesh
from jaxle.models.model import Model
from jaxle.models.positions import grid, on_grid
from jaxle.pipeline.dissect import BATCH, Masked, _dissect
from jaxle.pipeline.opened import Images, Opened, Partition
from tests import runs

METHOD = {"methods": {"netdissect": {"explainer": "network_dissection"}}}
SIDE = 16


class Quarters:
    """Images of noise whose quarters are labelled by how bright they are, made when asked for."""

    class_names, labels, annotations = (), None, None
    concepts, categories = ("dark", "bright", "all"), ("light", "light", "whole")

    def __init__(self, n):
        self.n = n
        self.masks = self

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        image = np.kron(rng.integers(0, 256, (2, 2, 3)), np.ones((SIDE // 2, SIDE // 2, 1)))
        return (image + rng.integers(0, 9, image.shape)).clip(0, 255).astype(np.uint8), -1

    def label_maps(self, i):
        bright = 1 + (self[i][0].mean(-1) > 127)
        return np.array([bright, np.full_like(bright, 3)])[: 1 + (i % 3 > 0)]

    def fingerprint_fields(self):
        return {"n": self.n}


class Cells(Model):
    """Maps of one tap: colours over 4 × 4 cells, and tokens of them in another."""

    taps = {"cells": (4, 4, 3), "tokens": (17, 3)}
    preprocess = Preprocess("none", SIDE)
    variables = {"w": np.array([1.0, -1.0, 2.0], np.float32)}

    def __init__(self):
        pass

    def resolve(self, tap):
        return tap

    def probe(self, images, pools, variables=None):
        means = images.astype(jnp.float32).reshape(-1, 4, 4, 4, 4, 3).mean((2, 4))
        cells = means * jnp.asarray(variables["w"])[None, None, None]
        tokens = jnp.concatenate([cells[:, 0, :1], cells.reshape(-1, 16, 3)], axis=1)
        return {tap: {"cells": cells, "tokens": tokens}[tap] for tap in pools}, None


def overlaps(n, seen):
    source = Quarters(n)
    split = Split(np.arange(seen)[::2], np.arange(seen)[1::2], np.arange(seen, n))
    options = {"taps": {"cells": "cells", "tokens": "tokens"}, "share": 0.1, "side": 112}
    return _dissect(
        Opened("", Cells()),
        Images("", source),
        Masked("", source),
        Partition("", split),
        options,
        make_mesh(1),
    )


def test_a_pass_over_the_images_gives_what_arrays_give():
    n, seen = 90, 70  # the last batch is not full; test images are not read
    arrays, facts = overlaps(n, seen)
    assert facts == {"n_images": seen, "side": SIDE} and seen % BATCH
    source = Quarters(n)
    images = np.stack([source[i][0] for i in range(seen)])
    values, _ = Cells().probe(images, {"cells": "none"}, Cells.variables)
    labels = np.zeros((seen, 2, SIDE, SIDE), int)
    for i in range(seen):
        own = source.label_maps(i)
        labels[i, : len(own)] = own
    names, kinds = source.concepts, source.categories
    found = dissect(np.asarray(values["cells"]), labels, names, kinds, share=0.1)
    for tap in ("cells", "tokens"):
        iou = arrays[f"{tap}.iou"]
        np.testing.assert_allclose(iou.max(1), found.scores["pixel iou"], atol=2e-3)
        assert [row.concepts[0] for row in found] == [names[j] for j in iou.argmax(1)]
    exact = np.quantile(values["cells"].reshape(-1, 3), 0.9, axis=0, method="inverted_cdf")
    np.testing.assert_allclose(arrays["cells.thresholds"], exact, rtol=1e-6)


def test_memory_does_not_grow_with_the_images():
    peaks, shapes = [], []
    for n in (100, 400):
        tracemalloc.start()
        arrays, _ = overlaps(n, n - 4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        shapes.append({name: np.shape(value) for name, value in arrays.items()})
    assert shapes[0] == shapes[1]
    assert peaks[1] < 1.15 * peaks[0] + 1e5


@pytest.mark.parametrize(
    "shape, rows",
    [((7, 5, 9), (7, 5)), ((50, 8), (7, 7)), ((49, 8), (7, 7)), ((52, 8), None), ((8,), None)],
)
def test_positions(shape, rows):
    assert grid(shape) == rows
    if rows:
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape)
        assert on_grid(jnp.asarray(values)).shape == (1, *rows, shape[-1])
        assert on_grid(jnp.asarray(values))[0, -1, -1, -1] == np.prod(shape) - 1


def test_a_run_describes_neurons_by_masks_and_caches_that(tmp_path):
    summary = runs.quick(tmp_path, METHOD)
    table = pd.read_csv(tmp_path / "layer1/netdissect/explanations.csv", keep_default_na=False)
    assert {"description", "pixel iou", "detector", "flag"} <= set(table)
    assert table["pixel iou"].between(0, 1).all() and set(table["detector"]) <= {0, 1}
    record = summary["results"][0]
    assert record["n_mask_images"] == 64 and record["mask_side"] == 64
    assert record["n_detectors"] == table["detector"].sum()
    runs.quick(tmp_path, METHOD)
    notes = [note for note in runs.notes(tmp_path) if note["step"] == "dissect"]
    assert [note["reused"] for note in notes] == [False, True]


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"target.taps": ("linear",)}, "tap 'linear' has the shape (13,), without rows and"),
        ({"evaluation.refits": 2}, "expected evaluation.refits=0, got 2"),
        ({"methods": {"netdissect": {"explainer": "network_dissection", "share": 0.0}}},
         "methods.netdissect.share must be a number"),
        ({"methods": {"netdissect": {"explainer": "network_dissection", "side": 0}}},
         "methods.netdissect.side must be a whole number of at least 1, got 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_dissected_is_refused(tmp_path, fields, words):
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path, {**METHOD, **fields})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_source_without_masks_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(40) % 13)
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path / "run", {**METHOD, "data.source": f"arrays:{tmp_path}"})
    words = "method 'netdissect' compares maps with pixel masks, and data.source='arrays:"
    assert words in str(error.value) and "has none: expected scenes, masks:PATH" in str(error.value)


HALVES = """
import numpy as np
from jaxle.data.scenes import ScenesSource


class Halves(ScenesSource):
    concepts, categories = ("left half", "right half"), ("half", "half")

    def __init__(self):
        super().__init__(80, 0)
        self.masks = self

    def label_maps(self, i):
        return np.repeat(1 + np.arange(2), 32)[None, None].repeat(64, axis=1)
"""


def test_masks_of_other_words_are_refused_before_a_pass(tmp_path, monkeypatch):
    (tmp_path / "halves_of_scenes.py").write_text(HALVES)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError) as error:
        runs.quick(tmp_path / "run", {**METHOD, "data.source": "halves_of_scenes:Halves"})
    words = "masks, of concepts such as 'left half', and explains with others, such as 'apple'"
    assert words in str(error.value)
