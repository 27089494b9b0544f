"""Images by bins of activation and by rank: worked examples, degenerate columns, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxle.report.bins import activation_bins, images_of_bins, images_of_ranks

A = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 4.0], np.float32)
HOLDS = np.array([[1, 0], [1, 0], [0, 1], [1, 1], [1, 1], [0, 1]], bool)


def test_a_worked_example():
    bins = activation_bins(A, HOLDS, n_bins=4)
    np.testing.assert_array_equal(bins.edges, [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(bins.members, [0, 0, 1, 1, 2, 3])
    np.testing.assert_array_equal(bins.counts, [2, 2, 1, 1])
    np.testing.assert_array_equal(bins.shares, [[1, 0], [0.5, 1], [1, 1], [0, 1]])
    # an image of which both hold counts for each by half
    np.testing.assert_array_equal(bins.parts, [[1, 0], [0.25, 0.75], [0.5, 0.5], [0, 1]])


def test_an_empty_bin_has_zeros_and_no_nan():
    bins = activation_bins([0.0, 8.0], [[0.25], [0.75]])
    assert bins.counts.tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert bins.shares[:, 0].tolist() == [0.25, 0, 0, 0, 0, 0, 0, 0.75]


@pytest.mark.parametrize(
    "values, edges, place",
    [
        ([3.0, 3.0], (0.0, 3.0), 7),  # constant and positive: its maximum
        ([5.0], (0.0, 5.0), 7),  # one image
        ([0.0, 0.0], (0.0, 0.0), 7),
        ([-2.0, -2.0], (-2.0, -2.0), 7),
        ([-4.0, 4.0], (-4.0, 4.0), 0),  # a tap before the rectifier
        ([-3.0, -1.0], (-3.0, -1.0), 0),
        ([-1e308, 1e308], (-1e308, 1e308), 0),  # whose range is beyond float64
        ([0.0, 5e-324], (0.0, 5e-324), 4),  # edges round to 0 or to the least number
    ],
)
def test_degenerate_columns(values, edges, place):
    bins = activation_bins(values, np.ones((len(values), 1)))
    assert (bins.edges[0], bins.edges[-1]) == edges and (np.diff(bins.edges) >= 0).all()
    assert bins.members[0] == place and bins.members[-1] == 7
    assert bins.counts.sum() == len(values)
    np.testing.assert_array_equal(bins.shares[:, 0], bins.counts > 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 9), st.integers(0, 4))
def test_what_holds_of_any_column(seed, n, n_bins, n_concepts):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n).astype(np.float32) * rng.integers(0, 2, n)
    values = rng.random((n, max(1, n_concepts)))
    bins = activation_bins(a, values, n_bins)
    assert bins.counts.sum() == n and np.diff(bins.edges).min() >= -1e-12
    assert (bins.edges[bins.members] <= a).all() and (a <= bins.edges[bins.members + 1]).all()
    for i in range(n_bins):
        own = values[bins.members == i]
        expected = own.mean(0) if len(own) else np.zeros(values.shape[1])
        np.testing.assert_allclose(bins.shares[i], expected, atol=1e-12)
    assert bins.parts.sum(1).max() <= 1 + 1e-12 and (bins.parts <= bins.shares + 1e-12).all()
    order = rng.permutation(n)
    again = activation_bins(a[order], values[order], n_bins)
    np.testing.assert_array_equal(again.members, bins.members[order])


def test_no_concept_is_no_column():
    bins = activation_bins(A)
    assert bins.shares.shape == bins.parts.shape == (8, 0)


def test_images_of_a_bin_are_at_equal_steps_of_rank():
    a = np.concatenate([np.arange(10) / 10, [2.0]])
    shown = images_of_bins(a, activation_bins(a, n_bins=2), 3)
    assert shown.tolist() == [[8, 4, 1], [10, -1, -1]]


def test_images_of_ranks():
    assert images_of_ranks(A, (1, 3, 6)).tolist() == [[5], [3], [0]]
    assert images_of_ranks(A, (2, 50), 3).tolist() == [[-1, 5, 4], [-1, -1, -1]]
    assert images_of_ranks([1.0, 1.0, 1.0], (1, 2, 3)).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize(
    "arguments, says",
    [
        ((np.zeros((2, 2)),), "got shape (2, 2): give one neuron's column"),
        (([],), "got shape (0,)"),
        (([1.0, np.nan],), "activations must be finite, got nan at image 1, column 0"),
        ((A, HOLDS[:5]), "same images, got 6 and 5 rows"),
        ((A, HOLDS * 2.0), "labels or probabilities from 0 to 1, got 2 at image 0, concept 0"),
        ((A, HOLDS, 0), "n_bins must be a whole number of at least 1, got 0"),
    ],
)
def test_refusals(arguments, says):
    with pytest.raises(ValueError) as error:
        activation_bins(*arguments)
    assert says in str(error.value)


@pytest.mark.parametrize("n", [0, 2.5, True])
def test_images_a_bin_or_rank_are_a_whole_number(n):
    for call in (lambda: images_of_bins(A, activation_bins(A), n), lambda: images_of_ranks(A, n=n)):
        with pytest.raises(ValueError, match="n must be a whole number of at least 1"):
            call()


@pytest.mark.parametrize("ranks", [(), (0, 5), (1.5,)])
def test_ranks_are_whole_numbers_from_one(ranks):
    with pytest.raises(ValueError, match="ranks must be integers of at least 1"):
        images_of_ranks(A, ranks)
