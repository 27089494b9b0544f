"""Generated problems like the real ones: a tree of classes, concepts on its nodes, and neurons.

one_hot     0/1 memberships of classes and of superclasses that are their exact sums (LE(Label))
similarity  σ(SCALE (cos(image, text) + SHIFT)) with near-synonyms, as of a calibrated SigLIP
            (LE(SigLIP))

A neuron follows a few of the concepts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHUNK = 5000  # images made at a time
SCALE, SHIFT = 16.8, -0.11 / 0.28  # cosines of real towers reach .28, and centre about .09 there


class Classed(NamedTuple):
    """Labels, what follows from them, and activations."""

    classes: np.ndarray  # (images,) int
    members: np.ndarray  # (classes, concepts) 0/1 uint8
    targets: np.ndarray  # (images, neurons) float32, rectified


def classed(n: int, n_concepts: int, n_neurons: int, seed: int = 0) -> Classed:
    """Concepts of labels: two thirds classes, one third superclasses."""
    rng = np.random.default_rng(seed)
    n_classes = max(2, round(n_concepts * 0.65))
    spans = [(i, i + 1) for i in range(n_classes)]
    level, supers = spans, []
    while len(level) > 1 and len(supers) < n_concepts - n_classes:
        parents, at = [], 0
        while at < len(level):
            size = int(rng.integers(2, 4))
            group = level[at : at + size]
            parents.append((group[0][0], group[-1][1]))
            at += size
        supers += [span for span in parents if span not in supers and span != (0, n_classes)]
        level = parents
    member = np.zeros((n_classes, n_concepts), np.float32)
    for j, (low, high) in enumerate((spans + supers)[:n_concepts]):
        member[low:high, j] = 1
    classes = rng.permutation(np.arange(n) % n_classes)
    response = np.zeros((n_classes, n_neurons), np.float32)
    for k in range(n_neurons):
        for j in rng.integers(0, n_concepts, rng.integers(1, 7)):
            response[:, k] += rng.uniform(0.3, 1) * member[:, j]
    response += 0.25 * response.std(0) * rng.standard_normal(response.shape).astype(np.float32)
    drive = (response - response.mean(0)) / response.std(0)
    targets = drive[classes] + 0.7 * rng.standard_normal((n, n_neurons), np.float32)
    return Classed(classes, member.astype(np.uint8), np.maximum(targets, 0, out=targets))


def one_hot(
    n: int, n_concepts: int, n_neurons: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, n_concepts) 0/1 float32, those of `classed` multiplied out, and targets."""
    made = classed(n, n_concepts, n_neurons, seed)
    return made.members[made.classes].astype(np.float32), made.targets


class Embedded(NamedTuple):
    """Embeddings of images and texts, rows of length 1, and activations; float32."""

    images: np.ndarray  # (images, dim)
    texts: np.ndarray  # (concepts, dim)
    targets: np.ndarray  # (images, neurons), rectified


def embedded(
    n: int, n_concepts: int, n_neurons: int, seed: int = 0, dim: int = 192, n_classes: int = 1000
) -> Embedded:
    """What `similarity` makes its features of: σ(SCALE (cos + SHIFT)) of these embeddings."""
    rng = np.random.default_rng(seed)
    nodes, level = [], np.zeros((1, dim), np.float32)
    for size in (12, 60, 250, n_classes):
        level = level[rng.integers(0, len(level), size)] + rng.standard_normal(
            (size, dim), np.float32
        )
        nodes.append(level)
    nodes = _unit(np.concatenate(nodes))
    spread = rng.uniform(0.3, 1.0, (n_concepts, 1)).astype(np.float32)
    texts = _unit(
        nodes[rng.integers(0, len(nodes), n_concepts)]
        + spread * _unit(rng.standard_normal((n_concepts, dim), np.float32))
    )
    drive = np.stack(
        [nodes[rng.integers(0, len(nodes), m)].sum(0) for m in rng.integers(1, 6, n_neurons)], 1
    )
    images, targets = np.empty((n, dim), np.float32), np.empty((n, n_neurons), np.float32)
    for start in range(0, n, CHUNK):
        stop = min(n, start + CHUNK)
        images[start:stop] = _unit(
            level[rng.integers(0, n_classes, stop - start)]
            + 1.2 * rng.standard_normal((stop - start, dim), np.float32)
        )
        targets[start:stop] = images[start:stop] @ drive + 0.25 * rng.standard_normal(
            (stop - start, n_neurons), np.float32
        )
    targets -= targets.mean(0)
    targets /= targets.std(0)
    return Embedded(images, texts, np.maximum(targets - 0.5, 0, out=targets))


def similarity(
    n: int, n_concepts: int, n_neurons: int, seed: int = 0, dim: int = 192, n_classes: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, n_concepts) float32 in (0, 1); targets (n, n_neurons) float32, rectified."""
    images, texts, targets = embedded(n, n_concepts, n_neurons, seed, dim, n_classes)
    features = np.empty((n, n_concepts), np.float32)
    for start in range(0, n, CHUNK):
        cos = images[start : start + CHUNK] @ texts.T
        features[start : start + CHUNK] = 1 / (1 + np.exp(-SCALE * (cos + SHIFT)))
    return features, targets


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)
