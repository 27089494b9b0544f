"""`jaxle.split`: a planted polysemantic neuron comes apart, each part with its own concept."""

import numpy as np
import pytest

import jaxle

N, WIDTH = 600, 10
CONCEPTS = ["dog", "car", "red", "blue"]
VECTORS = {"images": 80, "distance": 8.0, "spread": 4.0}


@pytest.fixture(scope="module")
def planted():
    """Neuron 0 fires for dogs and for cars, which go with other neurons each."""
    draw = np.random.default_rng(0)
    labels = (draw.random((N, 4)) < 0.25).astype(np.float32)
    labels[:, 1] *= 1 - labels[:, 0]
    dog, car = np.zeros(WIDTH), np.zeros(WIDTH)
    dog[[0, 1, 2]], car[[0, 5, 6]] = (3, 2, 2), (3, 2, 2)
    x = labels[:, :1] * dog + labels[:, 1:2] * car
    x = x * draw.uniform(0.7, 1.3, (N, 1)) + 0.1 * draw.random((N, WIDTH))
    return x.astype(np.float32), labels, dog / np.linalg.norm(dog), car / np.linalg.norm(car)


def test_a_planted_polysemantic_neuron(planted):
    x, labels, dog, car = planted
    (whole,) = jaxle.split(x, labels, CONCEPTS, 0, VECTORS, max_concepts=1)
    assert len(whole.parts) == 2
    by_word = {part.explanation.concepts[0]: part for part in whole.parts}
    for word, feature in (("dog", dog), ("car", car)):
        assert by_word[word].direction @ feature > 0.98
        assert by_word[word].correlation > whole.correlation + 0.05
        assert by_word[word].cosine == pytest.approx(feature[0], abs=0.05)
    lines = str(whole).splitlines()
    assert lines[0].startswith("neuron 0: ρ 0.") and len(lines) == 3 and "cosine 0.7" in lines[1]


def test_a_neuron_of_one_feature_stays_whole_and_several_come_in_order(planted):
    x, labels, dog, _ = planted
    found = jaxle.split(x, labels, CONCEPTS, [5, 1], VECTORS, seed=3)
    assert [one.neuron for one in found] == [5, 1]
    assert len(found[1].parts) == 1 and found[1].parts[0].direction @ dog > 0.98


@pytest.mark.parametrize(
    ("neurons", "vectors", "sentence"),
    [
        (WIDTH, {}, "neurons must be numbers from 0 to 9, got [10]"),
        ([0.5], {}, "got [0.5]"),
        ([], {}, "got []"),
        (0, {"distanse": 3.0}, "unknown option vectors.distanse: did you mean 'distance'?"),
        (0, {"images": 1}, "option vectors.images must be a whole number of at least 2, got 1"),
    ],
)
def test_what_is_refused(planted, neurons, vectors, sentence):
    with pytest.raises(ValueError) as error:
        jaxle.split(planted[0], planted[1], CONCEPTS, neurons, vectors)
    assert sentence in str(error.value)
