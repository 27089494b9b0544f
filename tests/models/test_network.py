"""What a pass over the images reads of a network, of classifiers and of two towers alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.models import zoo
from jaxle.models.network import Network
from jaxle.models.placement import place

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
TAPS = {"scenes_resnet": "layer3", "scenes_siglip_s": "img.blocks[1]"}


@pytest.fixture(scope="module", params=TAPS)
def network(request):
    return zoo.load_model(request.param)


def test_both_kinds_are_networks_and_what_lacks_a_member_is_none(network):
    assert isinstance(network, Network)

    class Half:
        name = weights_hash = "half"

        def resolve(self, tap):
            return tap

    assert not isinstance(Half(), Network)


def test_a_pass_reads_taps_and_outputs_through_the_protocol_alone(network):
    def read(network: Network, tap: str):
        return jax.jit(lambda variables, x: network.probe(x, {tap: "avg"}, variables))(
            network.variables, IMAGES
        )

    tap = TAPS[network.name]
    assert network.resolve(tap) in network.taps
    values, outputs = read(network, tap)
    np.testing.assert_allclose(values[tap], network.activations(IMAGES, tap), atol=1e-5)
    assert values[tap].shape == (3, network.taps[network.resolve(tap)][-1])
    assert outputs.shape[0] == 3 and len(network.class_names) in (0, outputs.shape[1])


@pytest.mark.parametrize("mesh", [None, (2, 4)])
def test_with_other_variables_it_is_the_same_network_on_the_same_devices(network, mesh):
    network = network if mesh is None else zoo.load_model(network.name, mesh=make_mesh(*mesh))
    doubled = jax.tree.map(lambda leaf: 2 * np.asarray(leaf), network.variables)
    other = network.with_variables(doubled, "doubled")
    assert type(other) is type(network) and other.weights_hash == "doubled" != network.weights_hash
    assert other.name == network.name and other.taps == network.taps

    def agree(mine, theirs):
        assert isinstance(theirs, jax.Array) and theirs.sharding == mine.sharding
        np.testing.assert_array_equal(2 * np.asarray(mine), theirs)

    jax.tree.map(agree, network.variables, other.variables)
    tap = TAPS[network.name]
    changed = other.activations(IMAGES, tap)
    assert np.abs(changed - network.activations(IMAGES, tap)).max() > 1e-2
    assert np.array_equal(
        changed, network.with_variables(other.variables, "again").activations(IMAGES, tap)
    )
    if hasattr(other, "embed_texts"):
        assert other.embed_texts(["a red square"]).shape == network.embed_texts(["x"]).shape


def test_variables_can_be_traced(network):
    def total(variables):
        return jnp.sum(network.with_variables(variables, "traced").probe(IMAGES, {})[1])

    assert np.isfinite(jax.jit(total)(network.variables))


def test_placed_variables_do_not_change_with_the_arrays_that_they_came_from():
    memory = np.zeros(4 * 1024 + 64, np.uint8)
    start = -memory.ctypes.data % 64  # where a device would take the memory as it is
    weights = memory[start : start + 4 * 1024].view(np.float32)
    placed = place({"params": {"w": weights}}, None)
    weights[:] = 1
    np.testing.assert_array_equal(placed["params"]["w"], 0)
