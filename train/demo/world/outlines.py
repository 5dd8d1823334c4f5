"""Outlines of shapes, each in the variety in which people draw it. A new shape is a function in `OUTLINES`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

Points = list[tuple[float, float]]


def outline(shape: str, radius: float, rng: random.Random) -> Points:
    """Returns the corners of a shape around (0, 0); round shapes have many.

    Args:
        shape: a key of `OUTLINES`.
        radius: radius of the circle that it is drawn in.
        rng: source of randomness.
    """
    points = OUTLINES[shape](rng)
    if shape in ("square", "rectangle", "triangle", "diamond") and rng.random() < 0.15:
        points = rounded(points, rng.uniform(0.1, 0.22))
    tilt = 0.0
    if rng.random() < 0.5:
        tilt = math.radians(rng.gauss(0, 4 if shape in ("diamond", "square", "cross") else 7))
    return turned(points, tilt, radius)


def turned(points: Points, angle: float, radius: float) -> Points:
    """Rotates and scales a shape of radius 1.

    Args:
        points: its corners.
        angle: clockwise, in radians.
        radius: the new radius.
    """
    cos, sin = math.cos(angle) * radius, math.sin(angle) * radius
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def _ring(corners: int, turn: float = 0.0) -> Points:
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return [(math.cos(angle), math.sin(angle)) for angle in angles]


def _oval(rng: random.Random) -> Points:
    flat = rng.uniform(0.42, 0.7)
    return _upright([(x, y * flat) for x, y in _ring(64)], rng)


def _rectangle(rng: random.Random) -> Points:
    half = math.atan(rng.uniform(0.4, 0.68))
    x, y = math.cos(half), math.sin(half)
    return _upright([(x, y), (-x, y), (-x, -y), (x, -y)], rng)


def _upright(points: Points, rng: random.Random) -> Points:
    return [(y, x) for x, y in points] if rng.random() < 0.4 else points


def _triangle(rng: random.Random) -> Points:
    kind = rng.choices(["even", "narrow", "right", "down"], [50, 20, 15, 15])[0]
    if kind == "narrow":
        half = rng.uniform(0.5, 0.95)
        return [(0, -1), (half, 0.75), (-half, 0.75)]
    if kind == "right":
        return [(-0.7, -0.7 * (side := rng.choice([-1, 1]))), (-0.7, 0.7 * side), (0.7, 0.7 * side)]
    return _ring(3, turn=math.pi / 2 if kind == "down" else -math.pi / 2)


def _star(rng: random.Random) -> Points:
    inner = rng.uniform(0.36, 0.52)
    return [
        (x * (inner if i % 2 else 1), y * (inner if i % 2 else 1)) for i, (x, y) in enumerate(_ring(10, -math.pi / 2))
    ]


def _cross(rng: random.Random) -> Points:
    """Cross, upright like a plus or sometimes like an x."""
    w = rng.uniform(0.18, 0.36)
    quarter = [(w, -0.95), (w, -w), (0.95, -w)]
    points = []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    if rng.random() < 0.75:
        return points
    return [((x - y) * math.sqrt(0.5), (x + y) * math.sqrt(0.5)) for x, y in points]


def _diamond(rng: random.Random) -> Points:
    half = rng.choice([0.6, 0.7, 1])
    return [(0, -1), (half, 0), (0, 1), (-half, 0)]


def _heart(rng: random.Random) -> Points:
    angles = [2 * math.pi * i / 64 for i in range(64)]
    curve = [
        (16 * math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)))
        for t in angles
    ]
    return [(x / 17, y / 17) for x, y in curve]


def rounded(points: Points, share: float) -> Points:
    """Cuts off corners, twice: round as buttons are.

    Args:
        points: the corners.
        share: fraction of an edge that is cut off at each end.
    """
    for _ in range(2):
        cut = []
        for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
            cut += [(x1 + (x2 - x1) * share, y1 + (y2 - y1) * share), (x2 + (x1 - x2) * share, y2 + (y1 - y2) * share)]
        points = cut
    return points


OUTLINES: dict[str, Callable[[random.Random], Points]] = {
    "circle": lambda rng: _ring(64),
    "square": lambda rng: _ring(4, turn=math.pi / 4),
    "triangle": _triangle,
    "star": _star,
    "rectangle": _rectangle,
    "oval": _oval,
    "diamond": _diamond,
    "heart": _heart,
    "cross": _cross,
    "hexagon": lambda rng: _ring(6, turn=rng.choice([0, math.pi / 6])),
}
