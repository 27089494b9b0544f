"""INVERT against scikit-learn's AUROC, exhaustive search, planted formulas, and bad input."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import jaxle
from jaxle.explanations.formula import And, Name, Not, Or, parse
from jaxle.solve import auroc
from tests.explanations.test_formula import plain

N, NAMES = 150, ("a", "b", "c AND d", "e")
SPLIT = {"train": range(100), "val": range(100, 130), "test": range(130, 150)}
RNG = np.random.default_rng(0)
LABELS = (RNG.random((N, 4)) < (0.3, 0.5, 0.2, 0.4)).astype(np.uint8)


def found_on(activations, labels, width=200, fractions=(0.05, 0.5)):
    index = np.arange(len(labels))
    of = auroc.images(activations, lambda i: labels[i], index, labels.shape[1])
    return of, auroc.search(of, labels.shape[1], most=3, width=width, fractions=fractions)


def every(names, most):
    """All formulas of at most so many literals, no two of which are one by commutation."""
    literals = [f for name in names for f in (Name(name), Not(Name(name)))]
    levels = [literals]
    for _ in range(1, most):
        levels.append(
            [join((f, one)) for f in levels[-1] for one in literals for join in (And, Or)]
        )
    return [formula for level in levels for formula in level]


def test_auroc_with_ties_is_scikit_learn_s():
    """Activations of few values, and labels; also where all are equal."""
    activations = RNG.integers(0, 5, (N, 4)).astype(np.float32)
    activations[:, 0] = 1
    activations[:, 1] = np.where(LABELS[:, 0] == 1, 0.0, -0.0)
    of, beam = found_on(activations, LABELS)
    got, length = np.asarray(beam.score), np.asarray(beam.formulas.length)
    got = np.where(got < 0, got + auroc.OUTSIDE, got)
    assert (length[:, :4] == 1).all() and (length == 3).any()
    for k in range(4):
        for i in np.flatnonzero(length[k])[::17]:
            truth = as_formula(beam, k, i)
            holds = plain(truth, LABELS, list(NAMES)) == 1
            expected = roc_auc_score(holds, activations[:, k])
            assert got[k, i] == pytest.approx(expected, abs=1e-6)
    again = auroc.scores(of, beam.formulas)
    np.testing.assert_allclose(again[length > 0], got[length > 0], atol=1e-6)


def as_formula(beam, k, i):
    formula, parts = None, beam.formulas
    for j in range(int(parts.length[k, i])):
        literal = Name(NAMES[int(parts.concept[k, i, j])])
        literal = Not(literal) if parts.negated[k, i, j] else literal
        join = Or if parts.either[k, i, j] else And
        formula = literal if j == 0 else join((formula, literal))
    return formula


def test_a_full_beam_is_an_exhaustive_search():
    activations = RNG.normal(size=(N, 4)).astype(np.float32)
    _, beam = found_on(activations, LABELS)
    best = np.asarray(beam.score).reshape(4, 3, -1).max(axis=2)
    for most in (1, 2, 3):
        found = np.full(4, -np.inf)
        for holds in {plain(f, LABELS, list(NAMES)).tobytes() for f in every(NAMES, most)}:
            holds = np.frombuffer(holds) == 1
            if 0.05 <= holds.mean() <= 0.5:
                each = [roc_auc_score(holds, activations[:, k]) for k in range(4)]
                found = np.maximum(found, each)
        np.testing.assert_allclose(best[:, most - 1], found, atol=1e-6)


PLANTED = [
    "a",
    "a AND NOT b",
    "a OR e",
    '(a AND b) OR "c AND d"',
    "b AND e AND NOT a",
    "NOT a AND e",
]


def test_equal_label_columns_leave_room_for_other_formulas():
    labels = np.repeat(LABELS, 40, axis=1)
    ranks = RNG.normal(size=(N, 2)) + LABELS[:, :2]
    (_, once), (_, often) = (found_on(ranks, x, width=8) for x in (LABELS, labels))
    np.testing.assert_array_equal(once.score, often.score)
    assert (np.asarray(often.score)[:, 8:] > -np.inf).all()


def planted(noise=0.05):
    columns = [plain(parse(text), LABELS, list(NAMES)) for text in PLANTED]
    values = np.stack(columns, axis=1) + noise * RNG.normal(size=(N, len(PLANTED)))
    return np.concatenate([values, np.full((N, 1), 3.0), np.zeros((N, 1))], axis=1)


def test_planted_formulas_are_found():
    activations = planted()
    how = {"search": "invert", "width": 10, "min_fraction": 0.05, "max_fraction": 0.65}
    found = jaxle.explain(activations, LABELS, NAMES, split=SPLIT, **how)
    kinds = [row.kind for row in found[:6]]
    assert kinds == ["description", *["formula"] * 5]
    for row, text in zip(found, PLANTED, strict=False):
        formula = parse(row.concepts[0]) if row.kind == "formula" else Name(row.concepts[0])
        got, expected = (plain(f, LABELS, list(NAMES)) for f in (formula, parse(text)))
        np.testing.assert_array_equal(got, expected)
        assert row.length <= len([w for w in text.split() if w not in ("AND", "OR", "NOT")]) + 2
    assert [row.flag for row in found] == [""] * 6 + ["constant", "dead"]
    assert found[0].concepts == ("a",) and parse(found[1].concepts[0]) == parse(PLANTED[1])
    simulated = jaxle.simulate(found, LABELS, NAMES)
    rho = jaxle.correlation(simulated[100:130, :6], activations[100:130, :6])
    np.testing.assert_allclose([row.val_correlation for row in found[:6]], rho, atol=1e-5)
    assert rho.min() > 0.95 and found.scores["val auroc"][:6].min() == 1
    assert found.facts["mean_val_auroc"] == 1


def test_test_images_are_not_read_and_scale_does_not_matter():
    activations = RNG.normal(size=(N, 5)) + LABELS[:, :1]
    labels, other = LABELS.copy(), activations.copy()
    labels[130:], other[130:] = 1 - labels[130:], 0
    first = jaxle.explain(activations, LABELS, NAMES, split=SPLIT, search="invert")
    again = jaxle.explain(1e9 + 1e-3 * other, labels, NAMES, split=SPLIT, search="invert")
    assert [row.concepts for row in first] == [row.concepts for row in again]
    assert first.lengths.max() <= 3 and max(row.val_correlation for row in first) > 0


SOFT = LABELS * 0.75


@pytest.mark.parametrize(
    "probs, more, message",
    [
        (SOFT, {"min_top5": 0}, r"labels of 0 and 1, got 0.75 of '.*' in image \d"),
        (LABELS, {"max_length": 4}, "max_length must be a whole number in .1, 3., got 4"),
        (LABELS, {"width": 0}, "width must be a whole number in .1, 128., got 0"),
        (LABELS, {"min_fraction": 0.4, "max_fraction": 0.3}, "min_fraction=0.4 is above"),
        (LABELS, {"max_fraction": 0.0}, "max_fraction must be a number in .0, 1., got 0"),
        (LABELS, {"max_fraction": 0.004}, "finds no concept that holds of 0.0035 to 0.004 of the"),
        (LABELS, {"mean_length": 2}, "mean_length=2 is no option of search='invert'"),
        (LABELS, {"depth": 2}, "depth"),
    ],
)
def test_bad_input_is_named(probs, more, message):
    with pytest.raises(ValueError, match=message) as caught:
        jaxle.explain(RNG.normal(size=(N, 2)), probs, NAMES, split=SPLIT, search="invert", **more)
    assert "\n" not in str(caught.value)
