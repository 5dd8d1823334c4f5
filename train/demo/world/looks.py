"""Style of a wide scene's shapes: other programs draw flat, hollow and thin shapes, and other stars.

A scene without a look is drawn in the usual style, so that images of the usual distribution stay what they are.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from .outlines import OUTLINES, Points, rounded, turned


@dataclass(frozen=True)
class Look:
    """One style for a whole image.

    Attributes:
        style: `filled`, `framed` (filled, with a line around) or `hollow` (the line alone).
        line: width of lines as a fraction of a shape's radius.
        smooth: whether edges are antialiased.
        aged: whether the image may be blurred, grainy and compressed.
        tilted: whether shapes are turned by more than drawing by hand would.
        alike: whether shapes of one name have one outline, and colours of one name one RGB value.
    """

    style: str
    line: float
    smooth: bool
    aged: bool
    tilted: bool
    alike: bool


def sample_look(rng: random.Random) -> Look:
    """Samples a style, mostly flat and clean, as programs draw."""
    style = rng.choices(["filled", "framed", "hollow"], [64, 18, 18])[0]
    line = rng.choice([rng.uniform(0.04, 0.1), rng.uniform(0.1, 0.25)])
    return Look(style, line, rng.random() < 0.75, rng.random() < 0.35, rng.random() < 0.25, rng.random() < 0.6)


def wide_outline(shape: str, radius: float, look: Look, rng: random.Random) -> Points:
    """Returns the corners of a shape around (0, 0).

    Args:
        shape: name of the shape.
        radius: radius of the circle that it is drawn in.
        look: says whether shapes are tilted.
        rng: source of randomness.
    """
    points = WIDE[shape](rng) if shape in WIDE and rng.random() < 0.7 else OUTLINES[shape](rng)
    if shape in ("square", "rectangle", "triangle", "diamond", "hexagon") and rng.random() < 0.15:
        points = rounded(points, rng.uniform(0.08, 0.22))
    return turned(points, _turn(shape, look, rng), radius)


def _turn(shape: str, look: Look, rng: random.Random) -> float:
    """Angle of a shape: any where the name stays right; a square on its corner would be a diamond."""
    if not look.tilted:
        return math.radians(rng.gauss(0, 5)) if rng.random() < 0.25 else 0.0
    if shape in ("star", "triangle", "hexagon"):
        return rng.uniform(0, 2 * math.pi)
    return math.radians(rng.uniform(-9, 9) if shape in ("square", "diamond", "cross") else rng.uniform(-30, 30))


def _star(rng: random.Random) -> Points:
    """Fat or thin star of five or six points, sometimes of four or eight."""
    tips = rng.choices([4, 5, 6, 8], [6, 64, 24, 6])[0]
    inner = rng.uniform(0.2, 0.6) if tips == 5 else rng.uniform(0.25, 0.4) if tips == 4 else rng.uniform(0.4, 0.6)
    points = []
    for i in range(2 * tips):
        angle, reach = math.pi * i / tips - math.pi / 2, inner if i % 2 else 1.0
        points.append((reach * math.cos(angle), reach * math.sin(angle)))
    return points


def _heart(rng: random.Random) -> Points:
    """Heart as icons have it: two round halves over a point."""
    bump, drop = rng.uniform(0.46, 0.52), rng.uniform(0.8, 0.98)
    across, up = rng.uniform(0.42, 0.47), rng.uniform(0.25, 0.4)
    right = []
    for i in range(24):  # from the notch over the top to the outside
        angle = math.pi * (1.0 - i / 23 * 1.18)
        right.append((across + bump * math.cos(angle), -up - bump * math.sin(angle)))
    right = [(max(x, 0.0), y) for x, y in right]
    return [*right, (0.0, drop), *[(-x, y) for x, y in reversed(right)]]


def _cross(rng: random.Random) -> Points:
    """Thin or fat plus, or an x."""
    w, long = rng.uniform(0.1, 0.4), 0.93
    quarter, points = [(w, -long), (w, -w), (long, -w)], []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    return turned(points, math.pi / 4, 1.0) if rng.random() < 0.3 else points


def _oval(rng: random.Random) -> Points:
    flat = rng.uniform(0.38, 0.74)
    ring = [(math.cos(math.pi * i / 32), flat * math.sin(math.pi * i / 32)) for i in range(64)]
    return ring if rng.random() < 0.65 else [(y, x) for x, y in ring]


def _rectangle(rng: random.Random) -> Points:
    half = math.atan(rng.uniform(0.28, 0.7))
    x, y = math.cos(half), math.sin(half)
    x, y = (x, y) if rng.random() < 0.65 else (y, x)
    return [(x, y), (-x, y), (-x, -y), (x, -y)]


def _diamond(rng: random.Random) -> Points:
    """Tall, flat or even diamond."""
    half, tall = rng.choice([(0.55, 1.0), (0.7, 1.0), (1.0, 1.0), (1.0, 1.0), (1.0, 0.65)])
    return [(0, -tall), (half, 0), (0, tall), (-half, 0)]


def _triangle(rng: random.Random) -> Points:
    """Triangle in its box, as editors draw it: flat, tall, or with its right angle in a corner."""
    half, tall = rng.choice([(0.8, 0.6), (0.55, 0.8), (0.7, 0.7)])
    if rng.random() < 0.2:
        return [(-half, -tall), (half, tall), (-half, tall)]
    return [(0, -tall), (half, tall), (-half, tall)]


WIDE = {
    **{"star": _star, "heart": _heart, "cross": _cross, "oval": _oval},
    **{"rectangle": _rectangle, "diamond": _diamond, "triangle": _triangle},
}
