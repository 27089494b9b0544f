"""jaxle.explain on arrays: planted truth, the paper's procedure restated in NumPy, and every
awkward input."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxle
from jaxle import Split
from jaxle.data.splits import make_split

NAMES = [f"c{j}" for j in range(30)]


def planted(n=1500, n_concepts=30, n_neurons=6, noise=0.3, seed=0):
    """0/1 concepts, and neurons that are sums of two of them."""
    rng = np.random.default_rng(seed)
    probs = (rng.random((n, n_concepts)) < 0.2).astype(np.float32)
    truth = np.stack([rng.choice(n_concepts, 2, replace=False) for _ in range(n_neurons)])
    activations = np.stack(
        [2 * probs[:, a] + probs[:, b] for a, b in truth], 1
    ) + noise * rng.normal(size=(n, n_neurons))
    return (activations + 1).astype(np.float32), probs, truth


def restated(activations, probs, split, lam=0.05 / 0.99, l1_ratio=0.99, r=10, v=10, eps=0.02):
    """method.md §§4–5 in float64 NumPy and scikit-learn, a neuron at a time.

    Returns [(names, weights, bias, ρ)].
    """
    from sklearn.linear_model import ElasticNet

    x, x_val = probs[split.train].astype(np.float64), probs[split.val].astype(np.float64)
    standard = (x - x.mean(0)) / x.std(0)
    result = []
    for k in range(activations.shape[1]):
        y, y_val = (
            activations[split.train, k].astype(np.float64),
            activations[split.val, k].astype(np.float64),
        )
        target = (y - y.mean()) / y.std()
        w = (
            ElasticNet(alpha=lam, l1_ratio=l1_ratio, tol=1e-12, max_iter=100_000)
            .fit(standard, target)
            .coef_
        )
        gradient = standard.T @ (target - standard @ w) / len(y)
        order = sorted(range(len(w)), key=lambda j: (-w[j], -gradient[j], j))
        chosen, rejected, best = [], set(), 0.0

        def fit(columns, y=y, y_val=y_val):
            design = np.column_stack([x[:, columns], np.ones(len(x))])
            beta = np.linalg.lstsq(design, y, rcond=None)[0]
            s = x_val[:, columns] @ beta[:-1]
            return beta, np.corrcoef(s, y_val)[0, 1] if s.std() > 0 else 0.0

        while len(chosen) < v:
            candidates = [j for j in order if j not in chosen and j not in rejected][:r]
            rho = {j: fit([*chosen, j])[1] for j in candidates}
            rejected |= {j for j in candidates if chosen and rho[j] < best + eps}
            top = max(candidates, key=lambda j: rho[j], default=None)
            if top is None or rho[top] < best + eps and chosen or rho[top] <= best:
                break
            chosen.append(top)
            best = rho[top]
        beta = fit(chosen)[0]
        ranked = sorted(zip(-beta[:-1], chosen, strict=True))
        result.append(([NAMES[j] for _, j in ranked], [-w for w, _ in ranked], beta[-1], best))
    return result


@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_equals_the_procedure_restated_in_numpy(noise):
    activations, probs, _ = planted(noise=noise)
    split = make_split(len(probs), 0)
    for got, (names, weights, bias, rho) in zip(
        jaxle.explain(activations, probs, NAMES, split=split),
        restated(activations, probs, split),
        strict=True,
    ):
        assert list(got.concepts) == names
        np.testing.assert_allclose(got.weights, weights, rtol=1e-5)
        np.testing.assert_allclose([got.bias, got.val_correlation], [bias, rho], rtol=1e-5)


def test_finds_what_was_planted_and_predicts_test_images():
    activations, probs, truth = planted()
    found = jaxle.explain(activations, probs, NAMES)
    for row, (a, b) in zip(found, truth, strict=True):
        assert row.concepts == (NAMES[a], NAMES[b]) and row.flag == ""
        np.testing.assert_allclose(row.weights, [2, 1], atol=0.1)
        assert row.bias == pytest.approx(1, abs=0.1)
    test = found.split.test
    rho = jaxle.correlation(jaxle.simulate(found, probs, NAMES)[test], activations[test])
    assert rho.min() > 0.9
    assert found.facts["worst_gap"] <= 1e-6


def test_never_looks_at_test_images():
    activations, probs, _ = planted()
    split = make_split(len(probs), 0)
    before = jaxle.explain(activations, probs, NAMES, split=split)
    activations[split.test], probs[split.test] = 17.0, 0.5
    assert jaxle.explain(activations, probs, NAMES, split=split).rows == before.rows


def test_one_neuron_at_a_time_equals_all_at_once_and_scale_carries_over():
    activations, probs, _ = planted(noise=1.0)
    together = jaxle.explain(activations, probs, NAMES)
    for k in range(activations.shape[1]):
        alone = jaxle.explain(1000 * activations[:, [k]], probs, NAMES)[0]
        assert alone.concepts == together[k].concepts
        np.testing.assert_allclose(alone.weights, 1000 * np.array(together[k].weights), rtol=1e-5)


@pytest.mark.parametrize("kind", ["memmap", "jax", "float64", "bfloat16"])
def test_kinds_of_array(kind, tmp_path):
    activations, probs, truth = planted()
    if kind == "memmap":
        np.save(tmp_path / "a.npy", activations)
        activations = np.load(tmp_path / "a.npy", mmap_mode="r")
    elif kind == "float64":
        activations, probs = activations.astype(np.float64), probs.astype(np.float64)
    else:
        activations, probs = (
            jnp.asarray(z, jnp.bfloat16 if kind == "bfloat16" else None)
            for z in (activations, probs)
        )
    found = jaxle.explain(activations, probs, NAMES)
    assert [set(row.concepts) for row in found] == [{NAMES[a], NAMES[b]} for a, b in truth]


def test_top_k_takes_as_many_as_asked():
    activations, probs, _ = planted()
    found = jaxle.explain(activations, probs, NAMES, search="top_k", max_concepts=4)
    assert found.lengths.tolist() == [4] * 6


def test_dead_and_constant_neurons_are_flagged_and_leave_the_others_alone():
    activations, probs, _ = planted()
    alone = jaxle.explain(activations, probs, NAMES)
    dead = np.stack([np.zeros(len(probs)), np.full(len(probs), 5.0), 1e-3 * probs[:, 0]], 1).astype(
        np.float32
    )
    found = jaxle.explain(np.concatenate([dead, activations], 1), probs, NAMES)
    assert [found[k].flag for k in range(3)] == ["dead", "constant", "dead"]
    assert (
        found[0].concepts == found[1].concepts == ()
        and found[1].bias == 5.0
        and found[2].concepts == ("c0",)
    )
    assert [row.concepts for row in found.rows[3:]] == [row.concepts for row in alone]
    assert jaxle.explain(dead, probs, NAMES, dead_threshold=1e-4)[2].flag == ""


def test_a_neuron_that_nothing_explains_is_flagged_not_dropped():
    rng = np.random.default_rng(3)
    probs = (rng.random((60, 1)) < 0.5).astype(np.float32)
    split = make_split(60, 0)
    y = probs[:, 0].copy()
    y[split.val] = 1 - y[split.val]  # the only concept's validation correlation is negative
    row = jaxle.explain(y[:, None], probs, ["c0"], split=split)[0]
    assert (row.flag, row.concepts, row.val_correlation) == ("unexplained", (), 0.0)
    assert row.bias == pytest.approx(y[split.train].mean())


def test_a_concept_constant_on_train_is_screened_out():
    activations, probs, _ = planted()
    split = make_split(len(probs), 0)
    probs[:, 7] = 0
    probs[split.test, 7] = 1
    found = jaxle.explain(activations, probs, NAMES, split=split)
    assert "c7" not in found.concepts and found.facts["n_concepts"] == 29


@pytest.mark.parametrize("n", [12, 25])
def test_fewer_images_than_concepts(n):
    activations, probs, _ = planted(n=n, noise=0.1)
    found = jaxle.explain(activations, probs, NAMES, min_top5=0)
    assert len(found) == 6 and all(
        np.isfinite([*row.weights, row.bias, row.val_correlation]).all() for row in found
    )


def test_one_neuron_and_one_concept():
    x = np.random.default_rng(0).random((200, 1)).astype(np.float32)
    row = jaxle.explain(3 * x + 1, x, ["c"])[0]
    assert (
        row.concepts == ("c",)
        and row.weights[0] == pytest.approx(3, rel=1e-4)
        and row.bias == pytest.approx(1, rel=1e-4)
    )


def test_the_fewest_images():
    """Three images give one to each part: on a single training image no concept varies, and that is
    said. Four are a fit."""
    y, x = np.array([[0.0], [1.0], [2.0]], np.float32), np.array([[0.0], [1.0], [1.0]], np.float32)
    with pytest.raises(ValueError, match="none of the 1 concepts passes screening"):
        jaxle.explain(y, x, ["c"], min_top5=0)
    split = Split(np.array([0, 1]), np.array([2, 3]), np.array([4]))
    row = jaxle.explain(
        np.array([[1.0], [3.0], [1.0], [3.0], [1.0]], np.float32),
        np.array([[0.0], [1.0], [0.0], [1.0], [0.0]]),
        ["c"],
        split=split,
    )[0]
    assert (
        row.concepts == ("c",)
        and row.weights == pytest.approx([2])
        and row.bias == pytest.approx(1)
        and row.val_correlation == pytest.approx(1)
    )


def test_dependent_columns_are_harmless():
    activations, probs, truth = planted()
    both = np.concatenate([probs, probs[:, :5], 1 - probs[:, :5]], 1)  # duplicates, and complements
    names = [*NAMES, *[f"again {j}" for j in range(5)], *[f"not {j}" for j in range(5)]]
    found = jaxle.explain(activations, both, names)
    rho = jaxle.correlation(
        jaxle.simulate(found, both, names)[found.split.test], activations[found.split.test]
    )
    assert rho.min() > 0.9 and max(abs(w) for row in found for w in row.weights) < 10


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda a, p: (a[:-1], p, NAMES, {}),
            "activations and concept_probs must describe the same images, got 1499 and 1500 rows",
        ),
        (
            lambda a, p: (np.where(a > 3, np.nan, a), p, NAMES, {}),
            "activations must be finite, got nan at image",
        ),
        (
            lambda a, p: (a, np.where(p > 0, np.inf, p), NAMES, {}),
            "concept_probs must be finite, got inf at image",
        ),
        (
            lambda a, p: (a[:, 0], p, NAMES, {}),
            "activations must be a non-empty array of shape (images, neurons), got shape (1500,)",
        ),
        (
            lambda a, p: (a, p, NAMES[:-1], {}),
            "concepts must name the 30 columns of concept_probs, got 29 names",
        ),
        (
            lambda a, p: (a, p, [*NAMES[:-1], "c0"], {}),
            "concepts must be different names, got 'c0' twice",
        ),
        (
            lambda a, p: (a, p, NAMES, {"search": "best"}),
            "unknown explainer 'best': valid: greedy, top_k",
        ),
        (lambda a, p: (a, p, NAMES, {"lam": -1}), "lam must be a number above 0, got -1"),
        (lambda a, p: (a, p, NAMES, {"l1_ratio": 2}), "l1_ratio must be a number in"),
        (
            lambda a, p: (a, p, NAMES, {"max_concepts": 0}),
            "max_concepts must be a whole number of at least 1",
        ),
        (lambda a, p: (a, 0.1 * p, NAMES, {}), "none of the 30 concepts passes screening"),
        (
            lambda a, p: (
                a,
                p,
                NAMES,
                {"split": Split(np.arange(10), np.arange(5, 20), np.arange(20, 30))},
            ),
            "",
        ),
        (
            lambda a, p: (
                a,
                p,
                NAMES,
                {"split": Split(np.arange(10), np.arange(10, 20), np.arange(20, 3000))},
            ),
            "",
        ),
    ],
)
def test_bad_input_is_one_sentence(change, words):
    activations, probs, _ = planted()
    a, p, names, options = change(activations, probs)
    with pytest.raises(ValueError) as error:
        jaxle.explain(a, p, names, **options)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_above_noise_refuses_what_the_best_of_unrelated_concepts_would_gain():
    rng = np.random.default_rng(0)
    probs = (rng.random((500, 300)) < 0.3).astype(np.float32)
    activations = rng.normal(size=(500, 30)).astype(np.float32)
    activations[:, 24:] += 2.5 * probs[:, 24:30]
    names = [f"c{j}" for j in range(300)]
    paper, strict = (
        jaxle.explain(activations, probs, names, min_top5=0, above_noise=on) for on in (False, True)
    )
    assert (paper.lengths[:24] == 0).mean() < 0.2 and (strict.lengths[:24] == 0).mean() >= 0.9
    assert [row.concepts for row in strict.rows[24:]] == [(f"c{j}",) for j in range(24, 30)]
