"""search="preconditioned" against method.md §9 restated in NumPy float64 on the images, its
promises, and every awkward input."""

import jax
import numpy as np
import pytest
import scipy.stats

import jaxle
from jaxle.data.splits import make_split
from jaxle.explainers import EXPLAINERS, preconditioned, table
from jaxle.explainers.preconditioned import Preconditioned
from jaxle.explainers.protocol import ArrayRows, Problem
from jaxle.mesh import make_mesh
from jaxle.solve import folds, forward, measure, ridge

NAMES = [f"c{j}" for j in range(40)]
OPTIONS = Preconditioned(max_concepts=6, min_gain=0.01)


def planted(n=900, n_concepts=40, n_neurons=64, noise=0.8, seed=0):
    """Correlated 0/1 concepts, and neurons that are signed sums of three of them."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 5)) @ rng.normal(size=(5, n_concepts))
    probs = (common + 2 * rng.normal(size=(n, n_concepts)) > 1.5).astype(np.float32)
    truth = np.stack([rng.choice(n_concepts, 3, replace=False) for _ in range(n_neurons)])
    weights = rng.uniform(0.5, 2, truth.shape) * rng.choice([-1, 1], truth.shape)
    activations = (
        np.einsum("nki,ki->nk", probs[:, truth], weights)
        + noise * rng.normal(size=(n, n_neurons))
        + 4
    )
    return activations.astype(np.float32), probs, truth


def posed(activations, probs, split, mesh=None, min_top5=0.5):
    """The problem that a run makes of these arrays."""
    matrix, (train, val, _) = ArrayRows(probs, NAMES), split
    got = measure.measure(
        matrix.rows, len(NAMES), activations, train, val, min_top5=min_top5, mesh=mesh, folds=5
    )
    names = tuple(NAMES[j] for j in got.kept)
    return Problem(activations, names, matrix, split, got, mesh=mesh)


def select(x, target, max_concepts):
    """Forward selection of standardised columns for a standardised target, and close calls."""
    n, chosen, left, rest, close = len(x), [], x.copy(), target.copy(), False
    for _ in range(max_concepts):
        size = left.var(0)
        open_ = size > forward.PIVOT
        gain = np.where(open_, (left.T @ rest / n) ** 2 / np.where(open_, size, 1), -1)
        if gain.max() <= forward.LEAST:
            break
        close |= np.sort(gain)[-2] > gain.max() - 1e-6
        chosen.append(int(np.argmax(gain)))
        q = left[:, chosen[-1]] / left[:, chosen[-1]].std()
        left, rest = left - np.outer(q, q @ left / n), rest - q * (q @ rest / n)
    return chosen, close


def restated(activations, probs, split, max_concepts, min_gain, teacher=True):
    """method.md §9, a neuron at a time; the teacher's strength by GCV, no exchanges.

    Returns [(concepts, weights, bias, ρ̄, close call)].
    """
    both = np.concatenate([split.train, split.val])
    x, n = probs[both].astype(np.float64), len(both)
    parts = zip(folds.assign(split.train, 5, 0), folds.assign(split.val, 5, 0)[::-1], strict=True)
    parts = [np.isin(both, np.concatenate(pair)) for pair in parts]
    standard = (x - x.mean(0)) / x.std(0)
    inverses = [
        np.linalg.inv(standard.T @ standard / n + s * np.eye(x.shape[1])) for s in ridge.STRENGTHS
    ]
    freedom = [np.trace(inverse @ standard.T @ standard / n) for inverse in inverses]
    least = 3.0 * np.sqrt(sum(1 / (part.sum() - 1) for part in parts)) / 5
    result = []
    for k in range(activations.shape[1]):
        y = activations[both, k].astype(np.float64)
        target = (y - y.mean()) / y.std()
        cross, close = standard.T @ target / n, False
        inverse = np.linalg.inv(standard.T @ standard / n)
        if teacher:
            rss = [np.mean((target - standard @ (i @ cross)) ** 2) for i in inverses]
            gcv = [r / (1 - (1 + f) / n) ** 2 for r, f in zip(rss, freedom, strict=True)]
            close |= np.diff(np.sort(gcv)[:2])[0] < 1e-6
            inverse = inverses[int(np.argmin(gcv))]

        def path(rows, y=y, inverse=inverse):
            """Selected for the activations of some images; the Gram matrix is that of all."""
            own = (x[rows] - x[rows].mean(0)) / x.std(0)
            target = standard @ (inverse @ (own.T @ (y[rows] - y[rows].mean()) / len(own)))
            return select(standard, target / target.std(), max_concepts)

        def fit(columns, rows, y=y):
            design = np.column_stack([x[:, columns], np.ones(n)])
            return design, np.linalg.lstsq(design[rows], y[rows], rcond=None)[0]

        def rho(columns, part, y=y, fit=fit):
            design, beta = fit(columns, ~part)
            return np.corrcoef(design[part] @ beta, y[part])[0, 1]

        chosen, near = path(slice(None))
        inner = [path(~part) for part in parts]
        close |= near or any(found[1] for found in inner)
        last, gamma_y = 0, scipy.stats.skew(y)
        for step in range(len(chosen)):
            design, beta = fit(chosen[:step], slice(None))
            rest = y - design @ beta
            new = x[:, chosen[step]]
            new = new - design @ np.linalg.lstsq(design, new, rcond=None)[0]
            partial, p = np.corrcoef(rest, new)[0, 1], x[:, chosen[step]].mean()
            z = scipy.stats.t.isf(1 - 0.95 ** (1 / (2 * (x.shape[1] - step))), n - 2 - step)
            gamma = np.sign(partial) * gamma_y * (1 - 2 * p) / np.sqrt(p * (1 - p) * n)
            z += max(gamma, 0) * (z**2 - 1) / 6
            margin = abs(partial) - z / np.sqrt(z**2 + n - 2 - step)
            close |= abs(margin) < 1e-5
            last = step + 1 if margin > 0 else last
        lengths = range(1, last + 1)
        own = [np.mean([rho(chosen[:length], part) for part in parts]) for length in lengths]
        value = np.subtract(own, min_gain * np.arange(1, last + 1))
        close |= len(value) > 1 and np.diff(np.sort(value)[-2:])[0] < 1e-6
        length = int(np.argmax(value)) + 1 if last else 0
        pairs = list(zip(inner, parts, strict=True))
        nested = np.mean([rho(found[0][:length], part) for found, part in pairs]) if length else 0
        if nested <= least or own[length - 1] <= least:
            length, nested = 0, 0.0
        beta = fit(chosen[:length], slice(None))[1]
        result.append((chosen[:length], beta[:-1], beta[-1], nested, close))
    return result


@pytest.mark.parametrize("teacher", [True, False])
def test_equals_the_procedure_restated_in_numpy_on_64_neurons(teacher):
    activations, probs, _ = planted()
    split = make_split(len(probs), 0)
    options = {"max_concepts": 6, "min_gain": 0.01, "teacher": teacher, "exchanges": 0}
    found = jaxle.explain(
        activations, probs, NAMES, split=split, search="preconditioned", **options
    )
    exempt = 0
    for got, (chosen, weights, bias, rho, close) in zip(
        found, restated(activations, probs, split, 6, 0.01, teacher), strict=True
    ):
        if close:
            exempt += 1
            continue
        order = np.argsort(-weights, kind="stable")
        assert list(got.concepts) == [NAMES[chosen[i]] for i in order]
        np.testing.assert_allclose(got.weights, weights[order], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose([got.bias, got.val_correlation], [bias, rho], rtol=1e-4)
    assert exempt <= 3


def test_finds_what_was_planted_of_either_sign_and_uses_val_too():
    activations, probs, truth = planted(noise=0.5)
    found = jaxle.explain(activations, probs, NAMES, search="preconditioned")
    assert (
        np.mean(
            [
                set(row.concepts) >= {NAMES[j] for j in t}
                for row, t in zip(found, truth, strict=True)
            ]
        )
        > 0.9
    )
    assert any(w < 0 for row in found for w in row.weights) and found.facts["n_folds"] == 5
    test = found.split.test
    rho = jaxle.correlation(jaxle.simulate(found, probs, NAMES)[test], activations[test])
    greedy = jaxle.explain(activations, probs, NAMES)
    matched = jaxle.explain(
        activations, probs, NAMES, search="preconditioned", mean_length=float(greedy.lengths.mean())
    )
    rho_greedy, rho_matched = (
        jaxle.correlation(jaxle.simulate(e, probs, NAMES)[test], activations[test])
        for e in (greedy, matched)
    )
    assert (
        rho.mean() > 0.85
        and matched.lengths.mean() <= greedy.lengths.mean()
        and rho_matched.mean() > rho_greedy.mean()
    )


def test_exchanges_keep_the_lengths_and_are_judged_on_the_folds_again():
    activations, probs, _ = planted(n_concepts=40, noise=2.0)
    problem = posed(activations, probs, make_split(len(probs), 0))
    got, how = problem.measured, {"live": np.ones(64, bool), "skewness": problem.skewness}
    (before, _), (after, _) = (
        preconditioned.search(
            got, preconditioned.teach(got), Preconditioned(6, 0.0, exchanges=n), **how
        )
        for n in (0, 3)
    )
    np.testing.assert_array_equal(before.count, after.count)
    changed = [k for k in range(64) if set(before.selected[k]) != set(after.selected[k])]
    same = [k for k in range(64) if k not in changed and before.count[k]]
    assert changed and same
    assert (before.val_correlation != after.val_correlation)[changed].mean() > 0.5


def test_pure_noise_is_not_explained_and_a_concept_in_it_is():
    rng = np.random.default_rng(0)
    probs = (rng.random((500, 300)) < 0.3).astype(np.float32)
    activations = rng.normal(size=(500, 60)).astype(np.float32)
    activations[:, 50:] += 1.5 * probs[:, 50:60]
    names = [f"c{j}" for j in range(300)]
    found = jaxle.explain(activations, probs, names, search="preconditioned", min_top5=0)
    assert (found.lengths[:50] == 0).mean() >= 0.9
    assert [row.concepts for row in found.rows[50:]] == [(f"c{j}",) for j in range(50, 60)]
    assert found.facts["least"] == pytest.approx(3 / np.sqrt(395), rel=1e-3)


def test_the_limit_may_be_other_explanations_and_below_one():
    activations, probs, _ = planted(n_neurons=12)
    activations[:, 3] = 1.0  # constant: in no mean
    short = jaxle.explain(activations, probs, NAMES, max_concepts=1)
    assert table.mean_length(short) == 1.0 and short.lengths.mean() < 1
    found, same, half = (
        jaxle.explain(activations, probs, NAMES, search="preconditioned", mean_length=limit)
        for limit in (short, 1.0, 0.5)
    )
    assert found.rows == same.rows and found.lengths.sum() == 11
    assert half.lengths.sum() == 5 and table.mean_length(half) <= 0.5
    nothing = jaxle.explain(activations, probs, NAMES, search="preconditioned", mean_length=0)
    assert not nothing.lengths.any()


def test_never_looks_at_test_images():
    activations, probs, _ = planted(n_neurons=12)
    split = make_split(len(probs), 0)
    before = jaxle.explain(activations, probs, NAMES, split=split, search="preconditioned")
    activations[split.test], probs[split.test] = 3.0, 0.5
    assert (
        jaxle.explain(activations, probs, NAMES, split=split, search="preconditioned").rows
        == before.rows
    )


def test_one_neuron_at_a_time_equals_all_at_once_and_scale_carries_over():
    activations, probs, _ = planted(n_neurons=12)
    together = jaxle.explain(activations, probs, NAMES, search="preconditioned")
    for k in range(3):
        alone = jaxle.explain(1000 * activations[:, [k]], probs, NAMES, search="preconditioned")[0]
        assert alone.concepts == together[k].concepts
        np.testing.assert_allclose(alone.weights, 1000 * np.array(together[k].weights), rtol=1e-4)


def test_mean_length_counts_live_neurons_only():
    activations, probs, _ = planted(n_neurons=12)
    activations = np.maximum(activations, 0)  # behind a rectifier, where neurons can be dead
    activations[:, :5] = 0.005 * probs[:, :5]  # dead, each explained by one concept
    found = jaxle.explain(activations, probs, NAMES, search="preconditioned", mean_length=2.0)
    live = np.array([row.flag != "dead" for row in found])
    assert (
        live.sum() == 7
        and 1.5 < found.lengths[live].mean() <= 2.0
        and found.facts["mean_length"] == found.lengths[live].mean()
    )
    assert (
        jaxle.explain(
            activations, probs, NAMES, search="preconditioned", min_gain=found.facts["min_gain"]
        ).rows
        == found.rows
    )


def test_dead_and_constant_neurons_are_flagged_and_leave_the_others_alone():
    activations, probs, _ = planted(n_neurons=12)
    activations = np.maximum(activations, 0)  # behind a rectifier, where neurons can be dead
    alone = jaxle.explain(activations, probs, NAMES, search="preconditioned")
    dead = np.stack([np.zeros(len(probs)), np.full(len(probs), 5.0), 1e-3 * probs[:, 0]], 1).astype(
        np.float32
    )
    found = jaxle.explain(
        np.concatenate([dead, activations[:, 3:]], 1), probs, NAMES, search="preconditioned"
    )
    assert [found[k].flag for k in range(3)] == ["dead", "constant", "dead"]
    assert (
        found[0].concepts == found[1].concepts == ()
        and found[1].bias == 5.0
        and found[2].concepts == ("c0",)
    )
    assert [row.concepts for row in found.rows[3:]] == [row.concepts for row in alone.rows[3:]]


@pytest.mark.parametrize("n", [8, 25])
def test_fewer_images_than_concepts(n):
    activations, probs, _ = planted(n=n, n_neurons=6)
    found = jaxle.explain(activations, probs, NAMES, min_top5=0, search="preconditioned")
    assert len(found) == 6 and all(
        np.isfinite([*row.weights, row.bias, row.val_correlation]).all() for row in found
    )


def test_one_neuron_and_one_concept():
    x = np.random.default_rng(0).random((200, 1)).astype(np.float32)
    row = jaxle.explain(3 * x + 1, x, ["c"], search="preconditioned")[0]
    assert (
        row.concepts == ("c",)
        and row.weights[0] == pytest.approx(3, rel=1e-4)
        and row.bias == pytest.approx(1, rel=1e-4)
    )
    assert row.val_correlation == pytest.approx(1, abs=1e-5)


def test_what_nothing_explains_is_flagged():
    rng = np.random.default_rng(0)
    probs, activations = (
        (rng.random((400, 3)) < 0.5).astype(np.float32),
        rng.random((400, 12)).astype(np.float32),
    )
    found = jaxle.explain(activations, probs, NAMES[:3], search="preconditioned")
    unexplained = [row for row in found if row.flag == "unexplained"]
    assert unexplained and all(
        row.concepts == () and row.val_correlation == 0 for row in unexplained
    )
    assert all(row.val_correlation > 0 for row in found if row.concepts)


def test_dependent_columns_are_harmless():
    """Classes, superclasses that are their sums, duplicates and complements."""
    rng = np.random.default_rng(0)
    member = np.eye(12)
    member = np.concatenate(
        [
            member,
            *(member[:, i : i + 4].sum(1, keepdims=True) for i in range(0, 12, 4)),
            member[:, :2],
            1 - member,
        ],
        1,
    )
    probs = member[rng.integers(0, 12, 1000)].astype(np.float32)
    activations = (
        probs @ rng.normal(size=(len(member[0]), 9)) + rng.normal(size=(1000, 9)) + 9
    ).astype(np.float32)
    names = [f"c{j}" for j in range(probs.shape[1])]
    found = jaxle.explain(
        activations, probs, names, search="preconditioned", max_concepts=30, min_gain=0.0
    )
    test = found.split.test
    design = np.column_stack([member[:, :11], np.ones(12)])
    table = np.linalg.lstsq(
        design[probs[:, :12].argmax(1)][found.split.train],
        activations[found.split.train],
        rcond=None,
    )[0]
    best = jaxle.correlation((design @ table)[probs[test, :12].argmax(1)], activations[test])
    rho = jaxle.correlation(jaxle.simulate(found, probs, names)[test], activations[test])
    assert (
        (rho > best - 0.05).all()
        and max(abs(w) for row in found for w in row.weights) < 100
        and found.lengths.max() <= 11
    )


def test_a_concept_in_one_fold_only_is_handled():
    activations, probs, _ = planted(n_neurons=12)
    split = make_split(len(probs), 0)
    probs[:, 0] = 0
    probs[folds.assign(split.train, 5, 0)[1][:2], 0] = 1
    activations[:, 0] = 5 * probs[:, 0] + 1
    found = jaxle.explain(
        activations, probs, NAMES, split=split, search="preconditioned", min_top5=0
    )
    assert all(np.isfinite([*row.weights, row.bias, row.val_correlation]).all() for row in found)
    # no fit outside that fold can know the concept, and no other fold can test it: nothing about
    # its neuron holds on images that the fit has not read
    assert found[0].val_correlation < 0.5


def test_one_device_equals_eight():
    activations, probs, _ = planted(n_neurons=12)
    split = make_split(len(probs), 0)
    options = Preconditioned(max_concepts=6, min_gain=0.01, mean_length=2.5)
    one, eight = (
        preconditioned.explain(posed(activations, probs, split, mesh), options)
        for mesh in (None, make_mesh())
    )
    for a, b in zip(one, eight, strict=True):
        assert a.concepts == b.concepts
        np.testing.assert_allclose(a.weights, b.weights, rtol=1e-4)


def test_the_teacher_is_the_ceiling_and_can_be_kept_between_the_steps():
    activations, probs, _ = planted(n_neurons=12)
    split = make_split(len(probs), 0)
    problem = posed(activations, probs, split)
    teacher = preconditioned.teach(problem.measured)
    kept = jax.tree.map(np.asarray, teacher)
    how = {"live": np.ones(12, bool), "skewness": problem.skewness}
    found, limits = preconditioned.search(problem.measured, kept, OPTIONS, **how)
    whole = preconditioned.explain(problem, OPTIONS)
    assert limits.min_gain == whole.facts["min_gain"] == 0.01
    assert limits.least == whole.facts["least"] > 0
    for k, row in enumerate(whole):
        chosen = found.selected[k, : found.count[k]]
        assert set(row.concepts) == {problem.concepts[j] for j in chosen}
        weights = np.sort(found.weights[k, : found.count[k]])[::-1]
        np.testing.assert_array_equal(row.weights, weights)
        assert row.bias == found.bias[k] and row.val_correlation == found.val_correlation[k]
    assert teacher.aim.cross.shape == (40, 12)
    assert set(whole.facts["teacher"]) > {"median_strength", "mean_freedom"}
    dense = probs[split.test] @ np.linalg.solve(problem.measured.total.gram, kept.aim.cross)
    assert jaxle.correlation(dense, activations[split.test]).mean() > 0.5


@pytest.mark.parametrize(
    "options, words",
    [
        (
            {"search": "greedy", "mean_length": 3},
            "mean_length=3 is no option of search='greedy'; its options: lam, l1_ratio, ",
        ),
        (
            {"search": "preconditioned", "mean_length": -0.5},
            "mean_length must be a number of at least 0, or None, got -0.5",
        ),
        (
            {"search": "preconditioned", "mean_length": True},
            "mean_length must be a number of at least 0, or None, got True",
        ),
        (
            {"search": "preconditioned", "teacher": "ridge"},
            "teacher must be True or False, got 'ridge'",
        ),
        (
            {"search": "precondition"},
            "unknown explainer 'precondition': did you mean 'preconditioned'? "
            f"(valid: {', '.join(EXPLAINERS)}).",
        ),
    ],
)
def test_bad_options_are_one_sentence(options, words):
    activations, probs, _ = planted(n=60, n_neurons=2)
    with pytest.raises(ValueError) as error:
        jaxle.explain(activations, probs, NAMES, **options)
    assert words in str(error.value) and "\n" not in str(error.value)
