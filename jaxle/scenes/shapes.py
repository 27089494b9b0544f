"""Signed distances of the eleven shapes, for antialiased silhouettes.

A shape fills the disc of radius 1 about the origin, give or take a twentieth; x points right, y
down, and distance is negative inside. A pixel's coverage is clip(½ − distance·radius, 0, 1), radius
in pixels. Distances are exact or, for ovals, crescents and outside corners, close enough near the
edge, which is all that coverage needs. Only + − × ÷ √ of float32 appear, which IEEE 754 rounds
alike everywhere.
"""

from __future__ import annotations

import math

import numpy as np


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 0.86


def _oval(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # f / |grad f| of f = |p/axes| - 1, its first-order distance
    a, b = 1.0, 0.6
    u, v = x / a, y / b
    length = np.sqrt(u * u + v * v)
    slope = np.sqrt((u / a) * (u / a) + (v / b) * (v / b)) + 1e-3
    return (length - 1) * length / slope


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - 0.67) - 0.27


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = x - 0.2
    bite = x - 0.6
    return np.maximum(np.sqrt(x * x + y * y) - 0.9, 0.76 - np.sqrt(bite * bite + y * y))


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # a square on its corner and a disc on each of its upper sides
    half, diagonal = 0.53, math.sqrt(0.5)
    x, y = np.abs(x), y - 0.06
    along, across = (x + y) * diagonal, (x - y) * diagonal
    square = np.maximum(np.abs(along), np.abs(across)) - half
    return np.minimum(square, np.sqrt(along * along + (across - half) * (across - half)) - half)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    y = y - 0.07
    return np.maximum(np.abs(x) * math.sqrt(0.75) - y * 0.5, y) - 0.5


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.72


def _rectangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) - 0.9, np.abs(y) - 0.5)


def _hexagon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(y * math.sqrt(0.75) + x * 0.5, x) - 0.8


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # mirror the plane into half an arm, then the distance to the arm's edge, from its tip to the
    # inner corner
    sine, cosine = math.sin(math.radians(36)), math.cos(math.radians(36))
    x, y = np.abs(x), 0.04 - y
    for _ in range(2):
        beyond = 2 * np.maximum(x * cosine - y * sine, 0)
        x, y = np.abs(x - beyond * cosine), y + beyond * sine
    tip, corner = 0.95, 0.45
    edge_x, edge_y = corner * sine, corner * cosine - tip
    y = y - tip
    share = np.clip((x * edge_x + y * edge_y) / (edge_x * edge_x + edge_y * edge_y), 0, 1)
    off_x, off_y = x - share * edge_x, y - share * edge_y
    inside = x * edge_y - y * edge_x > 0
    return np.sqrt(off_x * off_x + off_y * off_y) * (1 - 2 * inside.astype(np.float32)) - 0.03


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 0.9, np.minimum(x, y) - 0.3)


DISTANCE = {
    "circle": _circle,
    "oval": _oval,
    "ring": _ring,
    "crescent": _crescent,
    "heart": _heart,
    "triangle": _triangle,
    "square": _square,
    "rectangle": _rectangle,
    "hexagon": _hexagon,
    "star": _star,
    "cross": _cross,
}
