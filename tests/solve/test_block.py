"""The gap and the block solver: bounds, closed form, limits, the exact face that FISTA nears."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import block
from jaxle.solve.split import ROWS, split_jit

RNG = np.random.default_rng(0)
L1, L2 = 0.05, 0.0005


@pytest.fixture(scope="module")
def gathered(problems):
    """Seven neurons' blocks: gram (7, 30, 30), cross (7, 30), penalties and zero weights."""
    x, y = problems.standardised(*problems.similar())
    gram, cross = x.T @ x / len(x), y.T @ x / len(x)
    grams = np.broadcast_to(gram, (7, 30, 30))
    return [
        jnp.asarray(part, jnp.float32)
        for part in (
            grams,
            cross,
            np.ones(7),
            np.full((7, 30), L1),
            np.full((7, 30), L2),
            np.zeros((7, 30)),
        )
    ]


def primal(gram, cross, w):
    gram, cross, w = (np.asarray(part, np.float64) for part in (gram, cross, w))
    smooth = 0.5 - np.sum(w * cross, 1) + 0.5 * np.einsum("ki,kij,kj->k", w, gram, w)
    return smooth + L1 * np.abs(w).sum(1) + 0.5 * L2 * (w**2).sum(1)


def gap_at(gathered, w):
    gram, cross, var, alpha, beta, _ = gathered
    return block.duality_gap(
        cross,
        var,
        alpha,
        beta,
        w,
        cross - jnp.einsum("kij,kj->ki", gram, w, precision="highest") - beta * w,
    )


def test_on_orthogonal_concepts_the_solution_is_the_shrunken_cross_moment():
    cross = jnp.asarray(RNG.uniform(-0.3, 0.3, (5, 9)), jnp.float32)
    gram = jnp.broadcast_to(jnp.eye(9), (5, 9, 9))
    full = [jnp.full((5, 9), value) for value in (L1, L2, 0.0)]
    w = block.solve_block(gram, cross, jnp.ones(5), *full)
    np.testing.assert_allclose(
        w, np.sign(cross) * np.maximum(np.abs(cross) - L1, 0) / (1 + L2), atol=1e-6
    )


def test_the_gap_bounds_the_suboptimality_of_any_weights_and_vanishes_at_the_optimum(gathered):
    best = block.solve_block(*gathered)
    assert float(gap_at(gathered, best).max()) < 2e-7
    for size in (1e-4, 1e-2, 1.0):
        w = best + size * jnp.asarray(RNG.normal(size=best.shape), jnp.float32)
        excess = primal(*gathered[:2], w) - primal(*gathered[:2], best)
        assert (np.asarray(gap_at(gathered, w)) >= excess).all()
    zero = gap_at(gathered, jnp.zeros_like(best))
    assert ((np.asarray(zero) >= 0.5 - primal(*gathered[:2], best)) & (zero <= 0.5)).all()


def test_pivoting_ends_on_the_exact_face_where_fista_has_far_to_go(gathered):
    gram, cross, var, alpha, beta, start = gathered
    crawling = block._fista(gram, cross, alpha, beta, start)
    assert float(gap_at(gathered, crawling).max()) > 1e-5
    w = np.asarray(block._pivot(gram, cross, alpha, beta, jnp.sign(crawling)), np.float64)
    slope = (
        np.asarray(cross, np.float64)
        - np.einsum("kij,kj->ki", np.asarray(gram, np.float64), w)
        - L2 * w
    )
    np.testing.assert_allclose(slope[w != 0], L1 * np.sign(w[w != 0]), atol=1e-6)
    assert np.abs(slope[w == 0]).max() < L1 + 1e-6


def test_singular_and_duplicated_blocks_without_ridge_stay_finite_and_optimal(gathered):
    gram, cross, var, alpha, beta, start = gathered
    twice = [
        jnp.concatenate([cross, cross], 1),
        var,
        *(jnp.concatenate([part, part], 1) for part in (alpha, 0 * beta, start)),
    ]
    w = block.solve_block(jnp.tile(gram, (1, 2, 2)), *twice)
    once = block.solve_block(gram, cross, var, alpha, 0 * beta, start)
    np.testing.assert_allclose(w[:, :30] + w[:, 30:], once, atol=2e-3)
    both = primal(gram, cross, w[:, :30] + w[:, 30:]), primal(gram, cross, once)
    np.testing.assert_allclose(*both, atol=1e-6)


def test_permuting_concepts_permutes_the_solution_and_batching_changes_nothing(gathered):
    gram, cross, *rest = gathered
    order = RNG.permutation(30)
    base = block.solve_block(*gathered)
    np.testing.assert_allclose(
        block.solve_block(gram[:, order][:, :, order], cross[:, order], *rest),
        base[:, order],
        atol=5e-6,
    )
    alone = jnp.concatenate(
        [jax.jit(block.solve_block)(*(part[k : k + 1] for part in gathered)) for k in range(7)]
    )
    np.testing.assert_allclose(alone, base, atol=5e-6)


def test_split_among_cpu_devices_no_factorisation_is_batched(gathered):
    """Devices as many as threads, each in a batched LAPACK call, would wait for ever.

    Such a call needs the thread pool in which it runs.
    """
    batches = [jnp.tile(part, (8, *[1] * (part.ndim - 1))) for part in gathered]
    calls = {}
    for name, mesh in (("one", None), ("eight", make_mesh())):
        text = split_jit(block.solve_block, mesh, (ROWS,) * 6, ROWS).lower(*batches).as_text()
        calls[name] = [line.rpartition("->")[2] for line in text.splitlines() if "@lapack_" in line]
    assert calls["one"] and all("tensor<56x" in result for result in calls["one"])
    assert calls["eight"] and not any(re.search(r"tensor<7x", result) for result in calls["eight"])
