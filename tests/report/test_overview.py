"""The front page's numbers: how probable a word is where it is present, a source in a title."""

import numpy as np
import pytest

from jaxle.report.overview import present, short_source


@pytest.mark.parametrize("n", [10, 2001, 3999, 9000])
def test_a_word_of_the_last_images_counts(n):
    probs = np.zeros((n, 3), np.float32)
    probs[: n // 2, 0] = 1
    probs[-(n // 4) :, 1] = 0.25
    found = present(lambda rows, columns: probs[rows][:, columns], np.arange(n), np.arange(3))
    assert found[0] == 1 and found[1] == 0.25 and np.isnan(found[2])


def test_a_path_is_named_by_its_last_two_parts():
    assert short_source("folder:/home/me/cifar10/test") == "cifar10/test"
    assert short_source("scenes") == "scenes" and short_source("tfds:cifar10") == "tfds:cifar10"
