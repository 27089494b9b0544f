"""The elastic net on moments: closed form, properties, scikit-learn, awkward problems."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import ElasticNet

from jaxle.mesh import make_mesh
from jaxle.solve import elastic_net
from jaxle.solve.elastic_net import lam_max, path, solve
from jaxle.solve.moments import second_moments

LAM, L1_RATIO = 0.05 / 0.99, 0.99


def oracle(features, targets, problems, lam=LAM, l1_ratio=L1_RATIO):
    """Standardised columns and scikit-learn's weights at tol 1e-10, float64."""
    x, y = problems.standardised(features, targets)
    model = ElasticNet(alpha=lam, l1_ratio=l1_ratio, tol=1e-10, max_iter=200_000)
    return (
        x,
        y,
        np.stack(
            [
                model.fit(x, y[:, k]).coef_ if y[:, k].any() else np.zeros(x.shape[1])
                for k in range(y.shape[1])
            ],
            1,
        ),
    )


def certify(solution, x, y, best, problems, lam=LAM, l1_ratio=L1_RATIO, near=1e-4):
    """method.md §4's acceptance: objective, support off the threshold, gap ≥ suboptimality."""
    w = np.asarray(solution.weights, np.float64)
    value = functools.partial(problems.objective, x, y, lam=lam, l1_ratio=l1_ratio)
    excess = value(w, 0) - value(best, 0)
    assert (excess <= 1e-6 * np.maximum(value(best, 0), 1e-12)).all()
    assert (np.asarray(solution.gap, np.float64) >= excess - 1e-12).all()
    slope = np.abs(x.T @ (y - x @ best) / len(x) - lam * (1 - l1_ratio) * best)
    differs = (w != 0) != (best != 0)
    assert (np.abs(slope - lam * l1_ratio)[differs] < near).all()


def test_of_one_concept_is_the_shrunken_correlation(problems):
    features, targets = problems.similar()
    solution = solve(second_moments(features[:, :1], targets), LAM, L1_RATIO)
    rho = np.array([np.corrcoef(features[:, 0], targets[:, k])[0, 1] for k in range(7)])
    want = np.sign(rho) * np.maximum(np.abs(rho) - LAM * L1_RATIO, 0) / (1 + LAM * (1 - L1_RATIO))
    np.testing.assert_allclose(solution.weights[0], want, atol=1e-6)


def test_is_zero_from_lam_max_on_and_not_below(problems):
    moments = second_moments(*problems.similar())
    most = lam_max(moments, L1_RATIO)
    assert not np.asarray(solve(moments, float(most.max()) * 1.0001, L1_RATIO).weights).any()
    below = solve(moments, float(most.min()) * 0.99, L1_RATIO)
    assert np.asarray(below.weights != 0).any(0).all()
    zero = solve(moments, 10.0, L1_RATIO)
    assert (
        zero.converged.all()
        and not np.asarray(zero.gap).any()
        and not np.asarray(zero.weights).any()
    )


@pytest.mark.parametrize("kind", ["one_hot", "similar"])
@pytest.mark.parametrize("lam", [LAM, 0.005])
def test_equals_scikit_learn(problems, kind, lam):
    features, targets = getattr(problems, kind)()
    x, y, best = oracle(features, targets, problems, lam)
    solution = solve(second_moments(features, targets), lam, L1_RATIO)
    assert solution.converged.all() and float(solution.gap.max()) <= (
        5e-7 if lam == LAM else 1e-6
    )  # small λ ends at float32's round-off
    certify(solution, x, y, best, problems, lam)
    np.testing.assert_allclose(
        solution.gradient,
        x.T @ (y - x @ np.asarray(solution.weights, np.float64)) / len(x),
        atol=3e-6,
    )


def test_many_neurons_pass_through_few_slots_and_large_supports_through_larger_sets(problems):
    features, targets = problems.similar(n_concepts=90, n_neurons=300)
    moments = second_moments(features, targets)
    solution = solve(moments, 0.001, L1_RATIO)
    assert solution.converged.all()
    support = np.asarray(solution.weights != 0).sum(0)
    assert support.max() > elastic_net.WORKING_SET
    some = np.argsort(support)[[0, 150, 298, 299]]
    x, y, best = oracle(features, targets[:, some], problems, 0.001)
    certify(jax.tree.map(lambda part: part[..., some], solution), x, y, best, problems, 0.001)


def test_batched_equals_one_by_one_and_permuted_equals_permuted(problems):
    features, targets = problems.similar()
    base = solve(second_moments(features, targets), LAM, L1_RATIO).weights
    alone = [
        solve(second_moments(features, targets[:, [k]]), LAM, L1_RATIO).weights[:, 0]
        for k in (0, 6)
    ]
    np.testing.assert_allclose(np.stack(alone, 1), base[:, [0, 6]], atol=5e-6)
    concepts, neurons = (
        np.random.default_rng(1).permutation(30),
        np.random.default_rng(2).permutation(7),
    )
    moved = solve(second_moments(features[:, concepts], targets[:, neurons]), LAM, L1_RATIO).weights
    np.testing.assert_allclose(moved, base[concepts][:, neurons], atol=5e-6)


def test_one_device_equals_eight(problems):
    features, targets = problems.similar(n_neurons=11)
    moments = second_moments(features, targets)
    one, eight = solve(moments, LAM, L1_RATIO), solve(moments, LAM, L1_RATIO, mesh=make_mesh())
    assert len(eight.gap) == 11
    for a, b in zip(one, eight, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_path_equals_its_points_and_starts_each_from_the_one_before(problems):
    features, targets = problems.similar()
    moments = second_moments(features, targets)
    lams = [0.2, 0.05, 0.02]
    for lam, solution in zip(lams, path(moments, lams, L1_RATIO), strict=True):
        np.testing.assert_allclose(
            solution.weights, solve(moments, lam, L1_RATIO).weights, atol=1e-5
        )
    again = solve(moments, 0.02, L1_RATIO, start=solution)
    assert again.iterations.max() == 1
    for bad in ([], [0.1, 0.1], [0.1, 0.2]):
        with pytest.raises(ValueError, match="decreasing sequence"):
            path(moments, bad, L1_RATIO)


def awkward():
    """name → (features, targets, concepts and neurons that must have weight 0)."""
    rng = np.random.default_rng(3)
    base = rng.random((300, 30)).astype(np.float32)
    drive = (base @ rng.normal(size=(30, 7)) + rng.normal(size=(300, 7))).astype(np.float32)
    near = base.copy()
    near[:, 4] = 0.5 + 1e-5 * rng.normal(size=300)
    flat = base.copy()
    flat[:, 4], flat[:, 9] = 0.1, 0.0
    dead = drive.copy()
    dead[:, 2], dead[:, 5] = 0.0, 3.3
    copies = np.repeat(base[:, :15], 2, axis=1)
    scaled = base * 10.0 ** rng.uniform(-6, 6, 30).astype(np.float32)
    return {
        "duplicated columns": (copies, drive, [], []),
        "a column of variance 1e-10": (near, drive, [], []),
        "constant columns": (flat, drive, [4, 9], []),
        "columns scaled by 1e-6 to 1e6": (scaled, drive, [], []),
        "targets scaled by 1e-6 to 1e6": (
            base,
            drive * 10.0 ** np.arange(-6, 8, 2, dtype=np.float32),
            [],
            [],
        ),
        "dead neurons": (base, dead, [], [2, 5]),
        "twenty images, more concepts than images": (base[:20], drive[:20], [], []),
        "float16": (base.astype(np.float16), drive.astype(np.float16), [], []),
        "bfloat16": (base.astype(jnp.bfloat16), drive.astype(jnp.bfloat16), [], []),
    }


@pytest.mark.parametrize("name", list(awkward()))
def test_awkward_problems_converge_to_scikit_learns_solution(problems, name):
    features, targets, still, silent = awkward()[name]
    x, y, best = oracle(features.astype(np.float64), targets.astype(np.float64), problems)
    x[:, still], y[:, silent] = 0, 0
    solution = solve(second_moments(features, targets), LAM, L1_RATIO)
    assert all(np.isfinite(np.asarray(part)).all() for part in solution)
    assert solution.converged.all()
    assert (
        not np.asarray(solution.weights)[still].any()
        and not np.asarray(solution.weights)[:, silent].any()
    )
    assert not np.asarray(solution.gap)[silent].any()
    certify(solution, x, y, best, problems)


def test_without_ridge_duplicated_columns_share_what_the_lasso_gives_one(problems):
    features, targets, *_ = awkward()["duplicated columns"]
    x, y, best = oracle(features, targets, problems, l1_ratio=1.0)
    solution = solve(second_moments(features, targets), LAM, 1.0)
    assert solution.converged.all()
    w = np.asarray(solution.weights, np.float64)
    excess = problems.objective(x, y, w, 0, LAM, 1.0) - problems.objective(x, y, best, 0, LAM, 1.0)
    assert np.abs(excess).max() < 1e-6
    np.testing.assert_allclose(w[::2] + w[1::2], best[::2] + best[1::2], atol=1e-3)


@pytest.mark.parametrize(
    ("lam", "l1_ratio", "message"),
    [(0.0, 0.9, "lam"), (-1.0, 0.9, "lam"), (0.1, 0.0, "ridge"), (0.1, 1.1, "l1_ratio")],
)
def test_penalties_out_of_range_are_rejected(problems, lam, l1_ratio, message):
    with pytest.raises(ValueError, match=message):
        solve(second_moments(*problems.similar()), lam, l1_ratio)


def test_other_values_compile_nothing_new(problems, compilations):
    features, targets = problems.similar()
    solve(second_moments(features, targets), LAM, L1_RATIO)
    moments = second_moments(*problems.one_hot(seed=5))
    compilations.clear()
    solve(moments, 0.1, 0.5, tol=1e-4)
    assert compilations == []
