"""CLIP-Dissect against a plain reading of docs/methods.md in float64 NumPy, one neuron and one
image at a time; its promises; and what it refuses."""

import dataclasses

import numpy as np
import pytest
from scipy.special import logsumexp

import jaxle
from jaxle.explainers import EXPLAINERS
from jaxle.explainers.clip_dissect import SHARE, STANDARD, describe
from jaxle.explainers.protocol import Explainer
from jaxle.solve import similarity

N, K, M = 300, 64, 40
NAMES = [f"c{j}" for j in range(M)]


def planted(seed=0):
    """Rectified activations that follow one concept's cosines each, embeddings, and which ones."""
    rng = np.random.default_rng(seed)
    images, texts = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (rng.normal(size=(N, 12)), rng.normal(size=(M, 12)))
    )
    images, texts = images.astype(np.float32), texts.astype(np.float32)
    truth = rng.integers(0, M, K)
    noise = 0.2 * rng.normal(size=(N, K))
    activations = np.maximum(images @ texts[truth].T + noise, 0).astype(np.float32)
    return activations, images, texts, truth


def reading(activations, cosines, name, top, sharpness, discount):
    """(neurons, concepts) scores, as the formulas are written."""
    q, cosines = np.asarray(activations, np.float64), np.asarray(cosines, np.float64)
    scores = np.empty((q.shape[1], cosines.shape[1]))
    shares = np.exp(sharpness * cosines)
    shares = shares / shares.sum(axis=1, keepdims=True)
    for k in range(q.shape[1]):
        order = np.argsort(-q[:, k], kind="stable")[:top]
        value = q[order, k]
        if name == "soft_wpmi":
            p = 0.998 - np.arange(top) / 100 * (0.998 - 0.97)
            inside = [np.log(1 + p[t] * (shares[i] - 1) + 1e-7) for t, i in enumerate(order)]
            scores[k] = np.sum(inside, axis=0)
        elif name == "wpmi":
            scores[k] = np.sum([np.log(shares[i] + 1e-7) for i in order], axis=0)
        elif name == "rank_reorder":
            chance = np.mean(np.abs(value[:, None] - value[None, :]) ** 3)
            for c in range(cosines.shape[1]):
                own = cosines[order, c]
                rank = np.argsort(np.argsort(own, kind="stable"), kind="stable")
                error = np.mean(np.abs(value - np.sort(value)[rank]) ** 3)
                mean = own.mean()
                scores[k, c] = -error / chance / np.sqrt(mean) if mean > 0 else -np.inf
        else:
            x, y = (q[:, k] - q[:, k].mean()) ** 3, (cosines - cosines.mean(axis=0)) ** 3
            scores[k] = x @ y / np.linalg.norm(x) / np.linalg.norm(y, axis=0)
    if "wpmi" in name:
        scores = scores - discount * (logsumexp(scores, axis=0) - np.log(len(scores)))
    return scores


@pytest.mark.parametrize("name", STANDARD)
def test_equals_a_plain_reading(name):
    activations, images, texts, truth = planted()
    found = describe(activations, images, texts, NAMES, similarity=name)
    standard = STANDARD[name]
    top = standard.top or int(SHARE * N)
    scores = reading(activations, images @ texts.T, name, top, *standard[2:])
    assert [row.concepts for row in found] == [(NAMES[j],) for j in scores.argmax(axis=1)]
    np.testing.assert_allclose(found.scores["similarity"], scores.max(axis=1), atol=1e-4)
    assert (scores.argmax(axis=1) == truth).mean() > 0.6  # it finds what is planted
    assert all(row.kind == "description" and row.is_bare and row.flag == "" for row in found)


def test_tiles_of_any_width_give_the_same(monkeypatch):
    activations, images, texts, _ = planted()
    whole = describe(activations, images, texts, NAMES)
    monkeypatch.setattr(similarity, "LEAST_COLUMNS", 16)
    monkeypatch.setattr(similarity, "TILE_BYTES", 1)  # 3 tiles, the last one padded
    parts = describe(activations, images, texts, NAMES)
    assert [row.concepts for row in parts] == [row.concepts for row in whole]
    np.testing.assert_allclose(parts.scores["similarity"], whole.scores["similarity"], atol=1e-4)


@pytest.mark.parametrize("name", ["soft_wpmi", "cos_cubed"])
def test_other_counts_compile_nothing_new(name):
    activations, images, texts, _ = planted()
    describe(activations, images, texts, NAMES, similarity=name)
    programs = [f for f in vars(similarity).values() if hasattr(f, "_cache_size")]
    sizes = [program._cache_size() for program in programs]
    describe(activations[:290, :60], images[:290], texts[:37], NAMES[:37], similarity=name)
    assert len(programs) > 5 and [program._cache_size() for program in programs] == sizes


def test_ties_go_to_the_first_concept_and_to_the_first_image():
    activations, images, texts, _ = planted()
    twice = np.concatenate([texts, texts])
    found = describe(activations, images, twice, [*NAMES, *(f"again {n}" for n in NAMES)])
    assert {row.concepts[0] for row in found} <= set(NAMES)
    top = similarity.top_images(np.ones((9, 2), np.float32), np.arange(9), 4)
    assert top.places[:2].tolist() == [[0, 1, 2, 3]] * 2


def test_neurons_without_a_description_say_why():
    activations, images, texts, _ = planted()
    activations[:, 3] = 0.7
    found = describe(activations, images, texts, NAMES)
    assert (found[3].flag, found[3].concepts, found.scores["similarity"][3]) == ("constant", (), 0)
    assert found[2].flag == found[4].flag == ""
    opposite = np.concatenate([images[:, :1], images[:, 1:]], axis=1)
    opposite[:, 0] = np.abs(opposite[:, 0])
    away = -np.eye(12, dtype=np.float32)[:1]  # no image has a positive cosine with it
    found = describe(activations, opposite, away, ["away"], similarity="rank_reorder")
    assert {row.flag for row in found} == {"unexplained", "constant"}


def test_explain_reads_cosines_and_no_test_image():
    activations, images, texts, _ = planted()
    activations[:, 5] = 0
    cosines, parts = images @ texts.T, np.split(np.arange(N), [200, 240])
    split = dict(zip(("train", "val", "test"), parts, strict=True))
    how = {"search": "clip_dissect", "raw_features": True, "split": split}
    found = jaxle.explain(activations, cosines, NAMES, **how)
    same = describe(activations, images, texts, NAMES, images=np.arange(240))
    assert [row.concepts for row in found] == [row.concepts for row in same]
    assert found[5].flag == "dead" and found.split is not None
    activations[240:], cosines[240:] = activations[240:][::-1], -cosines[240:]
    again = jaxle.explain(activations, cosines, NAMES, **how)
    assert again.rows == found.rows
    far = 1e6 + 1e-3 * activations.astype(np.float64)  # float32 would lose all of it
    moved = jaxle.explain(far, cosines, NAMES, **how)
    assert [row.concepts for row in moved][:5] == [row.concepts for row in found][:5]


def test_a_layer_of_one_neuron_shares_nothing_with_others():
    activations, images, texts, _ = planted()
    one = describe(activations[:, :1], images, texts, NAMES)
    alone = describe(activations, images, texts, NAMES, discount=0.0)
    assert one[0].concepts == alone[0].concepts and one.scores["similarity"][0] != 0


BAD = [
    (
        lambda a, i, t: describe(a[:9], i, t, NAMES),
        "activations and image_embeddings must describe the same images, got 9",
    ),
    (lambda a, i, t: describe(a, 2 * i, t, NAMES), "image embedding 0 has length 2"),
    (lambda a, i, t: describe(a, i, t, NAMES[:3]), "expected (3 concepts, 12 numbers"),
    (lambda a, i, t: describe(a, i, t[:, :5], NAMES), "(40 concepts, 12 numbers as the image"),
    (lambda a, i, t: describe(a, i, t, ["c"] * M), "concepts repeat: c; expected each once"),
    (
        lambda a, i, t: describe(a, i, t, NAMES, images=np.array([0, N])),
        "images must be different numbers from 0 to 299",
    ),
    (
        lambda a, i, t: describe(a, i, t, NAMES, similarity="wmpi"),
        "similarity must be one of soft_wpmi, wpmi, rank_reorder, cos_cubed, got 'wmpi'",
    ),
    (lambda a, i, t: describe(a, i, t, NAMES, top_image=9), "did you mean 'top_images'?"),
    (
        lambda a, i, t: describe(a, i, t, NAMES, sharpness=1e300),
        "sharpness must be",
    ),
    (
        lambda a, i, t: jaxle.explain(a, (i @ t.T + 1) / 2, NAMES, search="clip_dissect"),
        "reads cosines of images and texts: give them in place of concept_probs, with raw_features",
    ),
    (
        lambda a, i, t: jaxle.explain(
            a, 9 * i @ t.T, NAMES, search="clip_dissect", raw_features=True
        ),
        "reads cosines, from −1 to 1, got",
    ),
    (
        lambda a, i, t: dataclasses.replace(EXPLAINERS["greedy"], needs=("cosine",)),
        "unknown need 'cosine' of an explainer: did you mean 'cosines'?",
    ),
    (
        lambda a, i, t: Explainer(EXPLAINERS["top_k"].options, lambda p, o: p, needs=("file",)),
        "an explainer that needs a file must have an option file",
    ),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_is_one_sentence(call, words):
    activations, images, texts, _ = planted()
    with pytest.raises(ValueError) as error:
        call(activations, images, texts)
    assert words in str(error.value) and "\n" not in str(error.value)
