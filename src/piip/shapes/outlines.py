"""The outlines of the drawn classes, as polygons."""

import math

import numpy as np
from numpy.typing import NDArray

Polygon = NDArray[np.float64]
"""Corners `(P, 2)` as x, y."""

SHAPE_NAMES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "crescent", "arrow", "hourglass")
"""The classes, in the order in which a smaller number of them is taken."""


def outline(name: str) -> list[Polygon]:
    """Returns a shape that fits the unit circle: a polygon to fill and, for some, a second one to cut out of it.

    Raises:
        ValueError: If `name` is not in `SHAPE_NAMES`.
    """
    turn = np.linspace(0, 2 * math.pi, 49)[:-1]
    circle = np.stack([np.sin(turn), -np.cos(turn)], axis=1)  # from the top on, since y points down
    points: list[tuple[float, float]]
    match name:
        case "circle":
            return _polygons(circle)
        case "ring":
            return _polygons(circle, 0.55 * circle)
        case "crescent":
            return _polygons(circle, 0.85 * circle + [0.5, 0])
        case "square":
            return _polygons(circle[6::12])
        case "triangle":
            return _polygons(circle[::16])
        case "star":
            spikes = np.linspace(0, 2 * math.pi, 11)[:-1]
            length = np.where(np.arange(10) % 2, 0.42, 1)
            return _polygons(np.stack([length * np.sin(spikes), -length * np.cos(spikes)], axis=1))
        case "heart":
            x = 16 * np.sin(turn) ** 3
            y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
            return _polygons(np.stack([x, -2.5 - y], axis=1))
        case "cross":
            a, b = 0.95, 0.3
            points = [(a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b)]
            return _polygons(np.array(points + [(-x, -y) for x, y in points]))
        case "arrow":
            points = [(1, 0), (0.1, 0.8), (0.1, 0.3), (-0.95, 0.3), (-0.95, -0.3), (0.1, -0.3), (0.1, -0.8)]
            return _polygons(np.array(points))
        case "hourglass":
            points = [(0.7, 0.75), (-0.7, 0.75), (-0.12, 0), (-0.7, -0.75), (0.7, -0.75), (0.12, 0)]
            return _polygons(np.array(points))
    raise ValueError(f"no shape is called {name!r}; there are {', '.join(SHAPE_NAMES)}")


def _polygons(*polygons: Polygon) -> list[Polygon]:
    radius = np.linalg.norm(polygons[0], axis=1).max()
    return [polygon / radius for polygon in polygons]
