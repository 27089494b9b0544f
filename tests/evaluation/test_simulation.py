import jax.numpy as jnp
import numpy as np
import pytest

from jaxle import Explanation, Explanations, correlation, simulate

TABLE = Explanations(
    (
        Explanation(0, ("ski", "dog"), (2.0, -1.0), 0.5),
        Explanation(1, (), (), 0.25),
        Explanation(2, ("dog",), (1.0,), 0.0),
    )
)
CONCEPTS = ["cat", "dog", "ski"]


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8, jnp.bfloat16])
def test_closed_form(kind):
    probs = jnp.array([[1, 0, 0], [0, 1, 1], [1, 1, 0]], kind)
    expected = [[0.5, 0.25, 0.0], [1.5, 0.25, 1.0], [-0.5, 0.25, 1.0]]
    np.testing.assert_allclose(simulate(TABLE, probs, CONCEPTS), expected, rtol=1e-6)


def test_order_of_concepts_and_unused_ones_do_not_matter():
    probs = np.random.default_rng(0).random((40, 3), np.float32)
    order = [2, 0, 1]
    np.testing.assert_array_equal(
        simulate(TABLE, probs, CONCEPTS),
        simulate(TABLE, probs[:, order], [CONCEPTS[i] for i in order]),
    )


@pytest.mark.parametrize(
    "concepts, words",
    [
        (["cat", "dog"], "got 2 names"),
        (["dog", "dog", "ski"], "2 of them different"),
        (["a", "b", "c"], "lacks"),
    ],
)
def test_names_that_do_not_fit_are_refused(concepts, words):
    with pytest.raises(ValueError, match=words):
        simulate(TABLE, np.zeros((4, 3), np.float32), concepts)


def test_correlation_of_the_simulation_with_itself_is_one_and_with_a_constant_zero():
    probs = np.random.default_rng(0).random((40, 3), np.float32)
    simulated = simulate(TABLE, probs, CONCEPTS)
    np.testing.assert_allclose(correlation(simulated, 3 * simulated + 1), [1, 0, 1], atol=1e-6)


def test_correlation_of_one_image_is_zero_and_shapes_are_checked():
    assert correlation(np.ones((1, 2)), np.ones((1, 2))).tolist() == [0, 0]
    with pytest.raises(ValueError, match="2 and 3 columns"):
        correlation(np.ones((4, 2)), np.ones((4, 3)))
    with pytest.raises(ValueError, match="got 4 and 5 rows"):
        correlation(np.ones((4, 2)), np.ones((5, 2)))
    with pytest.raises(
        ValueError, match="activations must be finite, got nan at image 1, neuron 0"
    ):
        correlation(np.ones((2, 1)), np.array([[0.0], [np.nan]]))
