import jax
import pytest

from jaxle import mesh


@pytest.mark.parametrize(
    "data, model, shape",
    [(None, 1, (8, 1)), (None, 2, (4, 2)), (2, 4, (2, 4)), (3, 2, (3, 2)), (1, 1, (1, 1))],
)
def test_shapes(data, model, shape):
    laid = mesh.make_mesh(data, model)
    assert (laid.shape["data"], laid.shape["model"]) == shape
    assert laid.axis_names == ("data", "model")
    assert mesh.data_size(laid) == shape[0] and mesh.data_size(None) == 1


@pytest.mark.parametrize(
    "data, model, words",
    [
        (9, 1, "needs 9 devices, got 8"),
        (None, 9, "needs 9 devices"),
        (0, 1, "at least 1"),
        (4, 0, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(data, model, words):
    with pytest.raises(ValueError, match=words):
        mesh.make_mesh(data, model)


def test_shardings_split_what_they_say():
    laid = mesh.make_mesh()
    x = jax.numpy.zeros((16, 24))
    for sharding, local in (
        (mesh.split_rows(laid), (2, 24)),
        (mesh.split_columns(laid), (16, 3)),
        (mesh.replicated(laid), (16, 24)),
    ):
        assert jax.device_put(x, sharding).addressable_shards[0].data.shape == local


def test_round_up():
    assert [mesh.round_up(n, 8) for n in (0, 1, 8, 9)] == [0, 8, 8, 16]
