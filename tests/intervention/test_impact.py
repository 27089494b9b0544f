"""Top Impact: shares of impact in closed form, and every edit against the whole network."""

import dataclasses

import numpy as np
import pytest

from jaxle.intervention.impact import BETAS, impact_share, mean_over_taps, top_impact


def test_shares_in_closed_form():
    impact = np.array([[1.0, 0.0], [-2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    activations = np.array([[4.0, 1.0], [3.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
    found = impact_share(impact, activations, (0.01, 0.25, 0.5, 0.6, 0.75, 1))
    np.testing.assert_allclose(found[0], [0.1, 0.1, 0.3, 0.3, 0.6, 1.0])
    np.testing.assert_array_equal(found[1], 0)  # no impact at all
    np.testing.assert_allclose(impact_share(impact, -activations, (0.25, 1))[0], [0.4, 1.0])
    np.testing.assert_allclose(
        impact_share(impact[:, :1], np.ones((4, 1)), (0.5,)), [[0.3]]
    )  # equal activations: the earlier first


def test_the_number_of_images_is_rounded_to_the_nearest():
    """0.0003 · 10,000 is 2.9999… in floating point: three images."""
    found = impact_share(np.ones((10_000, 1)), np.arange(10_000.0)[:, None], BETAS)
    np.testing.assert_allclose(found[0] * 10_000, [3, 20, 200, 1000, 5000])
    np.testing.assert_allclose(
        impact_share(np.ones((7, 1)), np.ones((7, 1)), (0.5, 0.0001)), [[4 / 7, 1 / 7]]
    )


def whole_network(model, pools, images, labels, neurons, brute_force, temperature, betas):
    """TI, straight from the formulas of method.md §7."""
    found = {}
    for tap, pool in pools.items():
        values = np.zeros((len(images), len(neurons)))
        change, before, after = brute_force(
            model, tap, pool, images, labels, neurons, values, temperature
        )
        z = np.float64(model.logits(images)) / temperature
        loss = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]
        impact = np.abs(((before * 1.0 - after) / before[:, :1].sum() + change / loss.sum()) / 2)
        order = np.argsort(-model.activations(images, tap, pool)[:, neurons], axis=0, kind="stable")
        top = [max(1, round(beta * len(images))) for beta in betas]
        found[tap] = np.array(
            [
                [impact[order[:t, j], j].sum() / impact[:, j].sum() for t in top]
                for j in range(len(neurons))
            ]
        )
    return found


@pytest.mark.parametrize(
    ("network", "pools"),
    [
        ("small_resnet", {"layer3": "avg", "layer1": "max"}),
        ("small_vit", {"blocks[1].mlp.act": "first"}),
    ],
)
def test_it_equals_the_whole_network_run_one_by_one(
    network, pools, request, small_images, brute_force
):
    model, (images, labels), neurons, betas = (
        request.getfixturevalue(network),
        small_images,
        np.arange(3),
        (0.05, 0.2, 0.5, 1.0),
    )
    found = top_impact(
        model, pools, lambda i: images[i], labels, np.arange(30), temperature=1.3, betas=betas
    )
    expected = whole_network(
        model, pools, images[:30], labels[:30], neurons, brute_force, 1.3, betas
    )
    for tap, impact in found.items():
        np.testing.assert_allclose(impact.table[neurons], expected[tap], atol=1e-4)
        np.testing.assert_array_equal(impact.table[impact.total > 0][:, -1], 1)
        assert (
            impact.n_images == 30 and impact.curve[-1] == 1 and (np.diff(impact.curve) >= 0).all()
        )
    rows = np.concatenate([x.table[x.total > 0] for x in found.values()])
    mean = mean_over_taps([x.table for x in found.values()], [x.total for x in found.values()])
    np.testing.assert_allclose(mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(
        mean_over_taps([np.zeros((2, 3)), np.zeros((1, 3))], [np.zeros(2), np.zeros(1)]),
        np.zeros(3),
    )


def test_it_equals_the_whole_network_on_trained_weights(resnet20, cifar10, brute_force):
    images, labels = cifar10[0][:40], cifar10[1][:40]
    pools, neurons, betas = (
        {"layer1": "avg", "layer2": "avg", "layer3": "avg"},
        np.array([0, 7]),
        (0.03, 0.1, 0.5, 1.0),
    )
    found = top_impact(
        resnet20, pools, lambda i: images[i], labels, np.arange(40), temperature=2.4, betas=betas
    )
    expected = whole_network(resnet20, pools, images, labels, neurons, brute_force, 2.4, betas)
    for tap, impact in found.items():
        np.testing.assert_allclose(impact.table[neurons], expected[tap], atol=1e-4)
    assert [impact.path for impact in found.values()] == ["suffix", "suffix", "linear"]
    assert [impact.table.shape for impact in found.values()] == [(16, 4), (32, 4), (64, 4)]


@pytest.mark.parametrize("tap", ["layer3", "layer2"])
def test_a_neuron_without_effect_has_no_impact(tap, small_resnet, small_images):
    """A channel that is 0 everywhere, by a batch norm of scale 0 and a negative bias."""
    images, labels = small_images
    stage = small_resnet.variables["params"][tap]
    block = stage["0"]
    norm = {
        "scale": block["bn2"]["scale"].at[2].set(0),
        "bias": block["bn2"]["bias"].at[2].set(-1e6),
    }
    params = small_resnet.variables["params"] | {tap: stage | {"0": block | {"bn2": norm}}}
    model = dataclasses.replace(small_resnet, variables=small_resnet.variables | {"params": params})
    found = top_impact(
        model, {tap: "avg"}, lambda i: images[i], labels, np.arange(25), temperature=1.0
    )[tap]
    assert model.activations(images, tap)[:, 2].max() == 0
    assert found.total[2] == 0 and found.n_without_effect >= 1
    np.testing.assert_array_equal(found.table[2], 0)
    np.testing.assert_allclose(found.mean, found.table[found.total > 0].mean(0), rtol=1e-5)


def test_one_image(small_resnet, small_images):
    images, labels = small_images
    found = top_impact(
        small_resnet, {"layer3": "avg"}, lambda i: images[i], labels, np.array([5]), temperature=1.0
    )["layer3"]
    np.testing.assert_array_equal(found.table[found.total > 0], 1)
    assert found.curve.shape == found.curve_at.shape == (1,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": None}, "Top Impact needs labels"),
        ({"index": np.arange(0)}, "at least one image"),
        ({"betas": (0.0,)}, "shares above 0 and at most 1"),
        ({"pools": {"layer9": "avg"}}, "unknown tap 'layer9'"),
    ],
)
def test_bad_input(options, message, small_resnet, small_images):
    images, labels = small_images
    given = {
        "model": small_resnet,
        "pools": {"layer3": "avg"},
        "images": lambda i: images[i],
        "labels": labels,
        "index": np.arange(9),
    }
    with pytest.raises(ValueError, match=message):
        top_impact(**given | {"temperature": 1.0} | options)
