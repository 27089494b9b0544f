"""Exchanges against NumPy in float64, one neuron and one slot at a time, and their properties."""

import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import exchange, forward
from jaxle.solve.moments import second_moments


def explained(gram, cross, columns):
    """Variance of the target that least squares on some standardised columns explains.

    −1 where one of them depends on the others.
    """
    inner = gram[np.ix_(columns, columns)]
    if np.linalg.cond(inner) > 1e5:
        return -1.0
    return cross[columns] @ np.linalg.solve(inner, cross[columns])


def step_by_step(gram, cross, selected, rounds):
    """(concepts, whether two sets were within 2e-6 of each other somewhere)."""
    chosen, close = list(selected), False
    for _ in range(rounds):
        before = list(chosen)
        for slot in range(len(chosen)):
            sets = [
                [*chosen[:slot], j, *chosen[slot + 1 :]]
                if j not in chosen or j == chosen[slot]
                else None
                for j in range(len(gram))
            ]
            values = np.array(
                [-1.0 if one is None else explained(gram, cross, one) for one in sets]
            )
            own, best = values[chosen[slot]], values.max()
            close |= np.sum(values > best - 4e-6) > 1 or 0 < abs(best - own) < 4e-6
            if best > own + forward.TIE:
                chosen[slot] = int(values.argmax())
        if chosen == before:
            break
    return chosen, close


def moments_of(features, targets, weights=None):
    """Standardised moments in float64: (gram, cross)."""
    x = features.astype(np.float64)
    y = targets.astype(np.float64) if weights is None else x @ weights
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean(0)) / y.std(0)
    return x.T @ x / len(x), x.T @ y / len(x)


@pytest.mark.parametrize("denoised", [False, True])
def test_equals_the_exchanges_step_by_step(problems, denoised):
    features, targets = problems.similar(n=400)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(30, 7)).astype(np.float32) if denoised else None
    moments = second_moments(features, targets)
    selected = np.stack([rng.choice(30, 5, replace=False) for _ in range(7)]).astype(
        np.int32
    )  # far from the best five
    dense = None if weights is None else second_moments(features, features @ weights)
    aim = None if dense is None else forward.Aim(dense.cross, dense.var_y)
    got = exchange.exchange(moments, selected, aim)
    gram, cross = moments_of(features, targets, weights)
    exempt = 0
    for k in range(7):
        want, close = step_by_step(gram, cross[:, k], selected[k], exchange.ROUNDS)
        exempt += close
        assert close or got[k].tolist() == want
    assert exempt <= 2 and (got != selected).any()


def test_the_explained_variance_never_falls_and_unused_slots_stay_unused(problems):
    features, targets = problems.similar()
    moments = second_moments(features, targets)
    path = forward.path(moments, most=6)
    path[2, 3:], path[4] = -1, -1
    better = exchange.exchange(moments, path)
    assert ((better >= 0) == (path >= 0)).all()
    gram, cross = moments_of(features, targets)
    for k in range(len(path)):
        before, after = (
            explained(gram, cross[:, k], row[row >= 0]) if (row >= 0).any() else 0.0
            for row in (path[k], better[k])
        )
        assert (
            len(set(better[k][better[k] >= 0])) == (better[k] >= 0).sum() and after >= before - 1e-6
        )
    assert exchange.exchange(moments, better).tolist() == better.tolist()


def test_forward_selections_classical_trap_is_left():
    """x₂ is nearly x₀ + x₁ and comes first; x₀ and x₁, of which the target is made, by exchange."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 2))
    features = np.column_stack(
        [x, x.sum(1) + 0.5 * rng.normal(size=4000), rng.normal(size=(4000, 2))]
    ).astype(np.float32)
    moments = second_moments(features, x.sum(1, keepdims=True).astype(np.float32))
    path = forward.path(moments, most=2)
    assert path[0, 0] == 2
    assert sorted(exchange.exchange(moments, path)[0].tolist()) == [0, 1]
    assert exchange.exchange(moments, path, rounds=0).tolist() == path.tolist()


def test_duplicated_constant_and_dependent_columns_are_never_chosen_twice(problems):
    features, targets = problems.similar()
    features = np.column_stack(
        [features, features[:, :5], features[:, :3].sum(1), np.ones(len(features))]
    ).astype(np.float32)
    moments = second_moments(features, targets)
    better = exchange.exchange(moments, forward.path(moments, most=8))
    gram = np.corrcoef(features[:, :36].T.astype(np.float64))
    for row in better:
        row = row[row >= 0]
        assert (
            36 not in row and np.linalg.eigvalsh(gram[np.ix_(row, row)]).min() > forward.PIVOT / 10
        )
    dead = second_moments(features, np.zeros_like(targets))
    none = np.full((targets.shape[1], 4), -1, np.int32)
    assert exchange.exchange(dead, none).tolist() == none.tolist()


def test_one_device_equals_eight_and_blocks_change_nothing(problems):
    features, targets = problems.similar(n_neurons=11)
    moments = second_moments(features, targets)
    selected = np.tile(np.arange(4, dtype=np.int32), (11, 1))
    one = exchange.exchange(moments, selected)
    np.testing.assert_array_equal(exchange.exchange(moments, selected, mesh=make_mesh()), one)
    np.testing.assert_array_equal(exchange.exchange(moments, selected, block=4), one)
