"""Wordings of equal value: what reads better, and what could stand as well."""

import numpy as np
import pytest

from jaxle.mesh import make_mesh
from jaxle.solve import wording
from jaxle.solve.moments import second_moments

ANIMAL, VEHICLE, RARE, COMMON, OTHER = range(5)


@pytest.fixture(scope="module")
def moments():
    """vehicle is "not animal", common is rare or one image more; 64 neurons of vehicle and rare."""
    rng = np.random.default_rng(0)
    x = (rng.random((2000, 5)) < 0.4).astype(np.float32)
    x[:, VEHICLE] = 1 - x[:, ANIMAL]
    x[:, COMMON] = x[:, RARE]
    x[np.flatnonzero(x[:, RARE] == 0)[0], COMMON] = 1
    y = x[:, [VEHICLE]] + x[:, [RARE]] + 2 * rng.normal(size=(2000, 64))
    return second_moments(x, y.astype(np.float32))


def chosen(*concepts):
    selected = np.full((64, 4), -1, np.int32)
    selected[:63, :2] = concepts  # the last neuron is unexplained
    return selected


def test_fewer_negative_terms_and_then_commoner_words(moments):
    found = wording.reword(moments, chosen(ANIMAL, RARE))
    assert (found[:63, 0] == VEHICLE).all() and np.isin(found[:63, 1], (RARE, COMMON)).all()
    assert (found[63] == -1).all() and (found[:, 2:] == -1).all()
    # one image seldom tells the two words apart
    assert (found[:63, 1] == COMMON).mean() > 0.5
    again = wording.reword(moments, chosen(ANIMAL, RARE), mesh=make_mesh())
    np.testing.assert_array_equal(found, again)


def test_what_is_positive_and_common_stays(moments):
    found = wording.reword(moments, chosen(VEHICLE, COMMON))
    np.testing.assert_array_equal(found, chosen(VEHICLE, COMMON))


def test_equivalents_are_what_explains_as_much_and_no_more(moments):
    found = wording.equivalents(moments, chosen(VEHICLE, RARE))
    assert found.shape == (64, 4, 3)
    assert (found[:63, 0, 0] == ANIMAL).all() and (found[:63, :2, 1:] == -1).all()
    assert (found[:63, 1, 0] == COMMON).mean() > 0.6
    assert (found[63] == -1).all() and (found[:, 2:] == -1).all()
