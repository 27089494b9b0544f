"""Units of columns: which are changed, that nothing is lost, and that values are of order 1."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxle.units import InUnits, Units, find_units, fits_float32, in_units

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 3))


@pytest.mark.parametrize(
    "x",
    [
        X,
        X.astype(np.float32),
        X.astype(np.float16),
        X * 1000 + 500,
        (X + 1e4).astype(np.float32),  # float32 knows no more
        X > 0,
        (20 * X).astype(np.int8),
        (100 * X).astype(np.int64),
        np.zeros((5, 2)),
        jnp.asarray(X, jnp.bfloat16),
    ],
)
def test_what_float32_holds_stays_as_it_is(x):
    assert find_units(x) is None and in_units(x) is x


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e-6, 1.0, 1e6, 1e30, 1e290])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1e8, -1e12])
def test_columns_come_to_order_1_and_back(scale, offset):
    x = (X + offset) * scale
    units = find_units(x)
    if offset == 0 and 1e-5 < scale < 1e5:
        assert units is None
        return
    values = InUnits(x, units)[:]
    assert values.dtype == np.float32
    assert (
        0.25 < np.abs(values).max() <= 1
        and np.log2(units.scale).tolist() == np.round(np.log2(units.scale)).tolist()
    )  # a power of two
    back = values * units.size + units.centre
    np.testing.assert_allclose(back, x, atol=6e-8 * np.ptp(x) + 4e-16 * np.abs(x).max())
    assert np.abs(np.corrcoef(values[:, 0], X[:, 0])[0, 1]) > 1 - 1e-6


def test_each_column_has_its_own():
    x = X * [1.0, 1e-30, 1.0] + [0.0, 0.0, 1e9]
    units = find_units(x)
    assert (units.centre != 0).tolist() == [False, False, True]
    assert units.scale[0] == 1 and units.scale[1] > 1e29 and 0.1 < units.scale[2] <= 1
    np.testing.assert_array_equal(InUnits(x, units)[:][:, 0], x[:, 0].astype(np.float32))
    assert units.far.tolist() == [False, False, True]
    assert units.columns(np.array([2, 0])).centre.tolist() == units.centre[[2, 0]].tolist()


@pytest.mark.parametrize("value", [0.1, 1e-30, -1e30, 123456789.123])
def test_round_off_of_a_constant_is_none(value):
    x = np.full((50, 2), value)
    x[:, 1] = value + np.spacing(value) * RNG.integers(-3, 4, 50)
    values = InUnits(x, find_units(x))[:]
    assert not values.any()
    x[0, 1] = value * (1 + 1e-9)  # this is variation
    assert InUnits(x, find_units(x))[:][:, 1].std() > 0.05


def test_integers_are_known_to_their_last_digit():
    x = (100 * X).astype(np.int64)
    for moved in (x + 2**40, (x + 2**28).astype(np.int32), (x // 50 + 60000).astype(np.uint16)):
        values = InUnits(moved, find_units(moved))[:]
        wanted = moved - moved.mean(0)
        np.testing.assert_allclose(values / values.std(), wanted / wanted.std(), atol=1e-5)


def test_rows_that_do_not_count_are_not_read_and_stay_finite():
    x = X + 1e8
    x[90:] = 1e300
    seen = np.arange(90)
    units = find_units(x, seen)
    np.testing.assert_allclose(units.centre, x[:90].mean(0))
    values = InUnits(x, units)[np.array([95, 3])]
    assert np.isfinite(values**2).all() and abs(values[1]).max() <= 1
    assert find_units(x, seen[::-1]).centre.tolist() == units.centre.tolist()


def test_it_is_read_in_blocks(monkeypatch):
    x = X + 1e8
    want = find_units(x)
    monkeypatch.setattr("jaxle.arrays.READ_BYTES", 200)
    got = find_units(x)
    np.testing.assert_allclose(got.centre, want.centre, rtol=1e-15)
    assert got.scale.tolist() == want.scale.tolist()


def test_no_change_has_units_too():
    assert Units.none(2).size.tolist() == [1, 1] and Units.none(2).centre.tolist() == [0, 0]


def test_numbers_within_float32_have_its_full_precision():
    assert fits_float32([0.0, 1.0, -1e29, 1e-29]).all()
    assert not fits_float32([1e31, -1e-31, 1e300]).any()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=2, max_size=12
    ).map(lambda column: np.array(column)[:, None])
)
def test_any_finite_column_gives_finite_values(column):
    units = find_units(column)
    values = column.astype(np.float32) if units is None else InUnits(column, units)[:]
    assert np.isfinite(values).all() and np.isfinite(values**2).all()
    if units is not None:
        assert np.isfinite(units.size).all() and np.isfinite(units.centre).all()
