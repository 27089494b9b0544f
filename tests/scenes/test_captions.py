"""Captions say only what is true, depend on (seed, index) only, and use every word of the world."""

import re

import numpy as np
import pytest

from jaxle.scenes import CONCEPTS, captions, render

INDEX = np.arange(6000)


@pytest.fixture(scope="module")
def sentences():
    return captions(INDEX, 4)


def test_every_concept_that_is_named_is_there_and_every_one_is_named(sentences):
    labels = render(INDEX, 4).concept_labels
    named = np.zeros_like(labels)
    for j, name in enumerate(CONCEPTS):
        phrase = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
        named[:, j] = [bool(phrase.search(caption)) for caption in sentences]
    wrong = np.argwhere((named == 1) & (labels == 0))
    assert not len(wrong), [(sentences[i], CONCEPTS[j]) for i, j in wrong[:5]]
    assert named.sum(axis=0).min() >= 20, {
        CONCEPTS[j]: int(n) for j, n in enumerate(named.sum(axis=0)) if n < 20
    }


def test_captions_are_short_varied_sentences(sentences):
    assert all(
        re.fullmatch(r"[A-Z][a-z ,:-]+\.", caption) and "  " not in caption and " ." not in caption
        for caption in sentences
    )
    assert max(len(caption.split()) for caption in sentences) <= 40
    assert len(set(sentences)) > 0.8 * len(sentences)
    assert not any(
        re.search(r"\b(?:a [aeiou]|an [^aeiou])", caption, re.IGNORECASE) for caption in sentences
    )


def test_access_is_random(sentences):
    some = np.random.default_rng(1).permutation(6000)[:200]
    assert captions(some, 4) == [sentences[i] for i in some]
    assert captions(INDEX[:50], 5) != sentences[:50]
    with pytest.raises(ValueError, match="index must"):
        captions(np.array([0.5]), 0)
