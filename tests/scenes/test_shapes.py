"""Silhouettes: areas in closed form, symmetry, and distances where coverage needs them."""

import math

import numpy as np
import pytest

from jaxle.scenes.shapes import DISTANCE

SIDE = 801
AXIS = np.linspace(-1.2, 1.2, SIDE, dtype=np.float32)
X, Y = np.broadcast_to(AXIS, (SIDE, SIDE)), np.broadcast_to(AXIS[:, None], (SIDE, SIDE))
CELL = float(AXIS[1] - AXIS[0])

AREAS = {
    "circle": math.pi * 0.86**2,
    "oval": math.pi * 0.6,
    "ring": math.pi * (0.94**2 - 0.4**2),
    "heart": 4 * 0.53**2 + math.pi * 0.53**2,
    "triangle": 3 * math.sqrt(3) * 0.5**2,
    "square": 4 * 0.72**2,
    "rectangle": 4 * 0.9 * 0.5,
    "hexagon": 2 * math.sqrt(3) * 0.8**2,
    "cross": 4 * (2 * 0.9 * 0.3 - 0.3**2),
}


@pytest.mark.parametrize("name", AREAS)
def test_area(name):
    area = np.mean(DISTANCE[name](X, Y) < 0) * (CELL * SIDE) ** 2
    assert area == pytest.approx(AREAS[name], rel=0.01)


@pytest.mark.parametrize("name", DISTANCE)
def test_distance_is_float32_within_the_disc_and_changes_as_fast_as_position_at_the_edge(name):
    distance = DISTANCE[name](X, Y)
    assert distance.dtype == np.float32 and np.all(np.isfinite(distance))
    inside = distance < 0
    assert np.hypot(X, Y)[inside].max() < 1.04 and 0.9 < np.mean(inside) * (CELL * SIDE) ** 2 < 2.7
    down, right = np.gradient(distance, CELL)
    edge = np.abs(distance) < 0.02
    assert np.median(np.abs(np.hypot(down, right)[edge] - 1)) < 0.06


def test_star_has_five_arms():
    turn = np.linspace(0, 2 * np.pi, 2000, endpoint=False, dtype=np.float32)
    along = DISTANCE["star"](0.7 * np.sin(turn), 0.04 - 0.7 * np.cos(turn)) < 0
    assert np.sum(along & ~np.roll(along, 1)) == 5 and along[0]
