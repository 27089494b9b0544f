"""Forward selection and its folds against method.md §9 step by step: NumPy, float64, lstsq."""

import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import folds, forward
from jaxle.solve.moments import second_moments


def explained(x, y, columns):
    """Share of y's variance that least squares on some columns explains."""
    design = np.column_stack([x[:, columns], np.ones(len(x))])
    fitted = design @ np.linalg.lstsq(design, y, rcond=1e-6)[0]
    return fitted.var() / y.var()


def fit(x, y, columns):
    """The least-squares prediction with intercept."""
    design = np.column_stack([x[:, columns], np.ones(len(x))])
    return design @ np.linalg.lstsq(design, y, rcond=None)[0]


def step_by_step(x, y, most):
    """One neuron's path: (concepts, whether two candidates or an end were within 2e-5).

    Of exact ties the first that correlates positively with what is left, else the first.
    """
    chosen, reached, close = [], 0.0, False
    while len(chosen) < min(most, x.shape[1]):
        open_ = [
            j
            for j in range(x.shape[1])
            if j not in chosen and dependence(x, chosen, j) > forward.PIVOT
        ]
        gains = np.array([explained(x, y, [*chosen, j]) - reached for j in open_])
        if not len(gains) or gains.max() < 1e-6 + forward.LEAST:
            close |= len(gains) > 0 and gains.max() > 1e-7
            break
        best = gains >= gains.max() - 1e-9
        close |= (gains > gains.max() - 2e-5)[~best].any()
        left = y - fit(x, y, chosen)
        positive = best & np.array([(left - left.mean()) @ x[:, j] > 1e-9 for j in open_])
        chosen.append(open_[int(np.argmax(positive if positive.any() else best))])
        reached += gains.max()
    return chosen, close


def dependence(x, chosen, j):
    return (
        (1 - explained(x, x[:, j], chosen))
        if chosen and x[:, j].std() > 0
        else float(x[:, j].std() > 0)
    )


@pytest.mark.parametrize("kind", ["similar", "one_hot"])
@pytest.mark.parametrize("denoised", [False, True])
def test_equals_the_method_step_by_step(problems, kind, denoised):
    features, targets = getattr(problems, kind)(n=400)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(30, 7)).astype(np.float32) if denoised else None
    got = forward.path(second_moments(features, targets), weights, most=6)
    x, y = (
        features.astype(np.float64),
        (targets if weights is None else features @ weights).astype(np.float64),
    )
    exempt = 0
    for k in range(7):
        want, close = step_by_step(x, y[:, k], 6)
        exempt += close
        assert close or [j for j in got[k] if j >= 0] == want
    assert exempt <= 2


def test_a_negative_concept_is_found_and_a_path_ends_where_all_is_explained(problems):
    features, _ = problems.similar()
    targets = (features[:, [4]] - 3 * features[:, [9]] + 2).astype(np.float32)
    path = forward.path(second_moments(features, targets), most=5)
    assert path.tolist() in ([[9, 4, -1, -1, -1]], [[4, 9, -1, -1, -1]])


def test_of_two_equal_columns_the_first_is_chosen_and_the_other_never(problems):
    features, targets = problems.similar()
    twice = np.concatenate([features, features], axis=1)
    once, path = (forward.path(second_moments(part, targets), most=8) for part in (features, twice))
    np.testing.assert_array_equal(path, once)


def test_of_a_column_and_its_complement_the_one_of_positive_weight_is_chosen(problems):
    features, targets = problems.similar()
    n = features.shape[1]
    both = np.concatenate([features, 1 - features], axis=1)
    once, path = (forward.path(second_moments(part, targets), most=8) for part in (features, both))
    np.testing.assert_array_equal(np.where(path >= n, path - n, path), once)
    assert (path >= n).any()
    first = path[:, 0]
    centred = targets - targets.mean(0)
    assert all(centred[:, k] @ both[:, j] > 0 for k, j in enumerate(first))


def test_no_superclass_beside_all_its_classes(problems):
    features, targets = problems.one_hot()
    for row in forward.path(second_moments(features, targets), most=30):
        chosen = features[:, row[row >= 0]].astype(np.float64)
        assert np.linalg.matrix_rank(chosen - chosen.mean(0)) == chosen.shape[1]


def test_constant_neurons_and_columns_stay_out(problems):
    features, targets = problems.similar()
    features[:, 2], targets[:, 3] = 0.7, 5.0
    path = forward.path(second_moments(features, targets), most=40)
    assert path.shape == (7, 40) and (path[3] == -1).all() and not (path == 2).any()
    assert (
        forward.judge(
            folds.fold_moments(features, targets, np.arange(700), np.arange(700, 900)).folds, path
        )[3]
        == -np.inf
    ).all()


def test_folds_judge_as_least_squares_on_the_images_does(problems):
    features, targets = problems.similar()
    train, val = np.arange(700), np.arange(700, 900)
    path = forward.path(second_moments(features, targets), most=5)
    rho = forward.judge(folds.fold_moments(features, targets, train, val, seed=2).folds, path)
    parts = [
        np.concatenate(p)
        for p in zip(folds.assign(train, 5, 2), folds.assign(val, 5, 2)[::-1], strict=True)
    ]
    for k in range(7):
        for length in range(1, 6):
            columns, each = path[k, :length], []
            for i, fold in enumerate(parts):
                rest = np.concatenate(parts[:i] + parts[i + 1 :])
                design = np.column_stack([features[:, columns], np.ones(900)]).astype(np.float64)
                beta = np.linalg.lstsq(
                    design[rest], targets[rest, k].astype(np.float64), rcond=None
                )[0]
                each.append(np.corrcoef(design[fold] @ beta, targets[fold, k])[0, 1])
            assert rho[k, length - 1] == pytest.approx(np.mean(each), abs=1e-5)


def test_folds_that_miss_a_concept_count_it_as_saying_nothing():
    """A concept in three images of one fold: it is constant in the other folds and outside it."""
    rng = np.random.default_rng(0)
    features = rng.random((100, 2)).astype(np.float32)
    parts = [np.arange(i, 100, 5) for i in range(5)]
    features[:, 0] = 0
    features[parts[2][:3], 0] = 1
    targets = (features[:, [0]] * 4 + features[:, [1]] + 0.1 * rng.normal(size=(100, 1))).astype(
        np.float32
    )
    each = tuple(second_moments(features, targets, part) for part in parts)
    rho = forward.judge(each, np.array([[0, 1]], np.int32))
    alone = forward.judge(each, np.array([[1, -1]], np.int32))
    assert rho[0, 0] == 0  # in no fold can it be both fitted and tested
    # in that fold it is left out of the fit, in the others it does not vary: the second concept
    # decides, with other weights
    assert 0 < rho[0, 1] <= 1 and abs(rho[0, 1] - alone[0, 0]) < 0.2 and alone[0, 1] == -np.inf


def test_lengths_weigh_correlation_against_concepts():
    rho = np.array(
        [
            [0.5, 0.53, 0.56, 0.561],
            [-0.1, 0.2, 0.2, -np.inf],
            [-0.2, -0.1, -np.inf, -np.inf],
            [-np.inf] * 4,
        ]
    )
    assert forward.lengths(rho, 0.02).tolist() == [3, 2, 0, 0]
    assert forward.lengths(rho, 0.0).tolist() == [4, 2, 0, 0]
    assert forward.lengths(rho, 2.0).tolist() == [1, 0, 0, 0]


def test_mean_length_sets_the_least_gain_that_keeps_it():
    rho = np.cumsum(np.random.default_rng(0).exponential(0.02, (200, 10)), axis=1)
    live = np.arange(200) > 20
    rho[30:40, 0] = -0.1  # at length 1 they are unexplained
    for wanted in (1.0, 2.5, 4.1):
        gain = forward.gain_for(rho, wanted, live)
        assert (
            forward.lengths(rho, gain)[live].mean()
            <= wanted
            < forward.lengths(rho, gain - 1e-4)[live].mean() + 1e-12
        )
    assert forward.gain_for(rho, 10.0, live) == 0.0
    assert forward.gain_for(rho, 1.0, np.zeros(200, bool)) == 0.0


def test_one_device_equals_eight_and_a_padded_block_a_whole_one(problems):
    moments = second_moments(*problems.similar(n_neurons=11))
    weights = np.random.default_rng(0).normal(size=(30, 11)).astype(np.float32)
    one = forward.path(moments, weights, most=5)
    np.testing.assert_array_equal(one, forward.path(moments, weights, most=5, mesh=make_mesh()))
    np.testing.assert_array_equal(one, forward.path(moments, weights, most=5, block=4))


def test_judging_needs_two_folds(problems):
    with pytest.raises(ValueError, match="at least 2 folds, got 1"):
        forward.judge((second_moments(*problems.similar()),), np.zeros((7, 1), np.int32))
