"""Positions of things in a wide scene: in a row, a column, a grid, on a diagonal, in a ring, or anywhere."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """Room for one thing: its centre, half its width and half its height, in units of the image's shorter edge."""

    x: float
    y: float
    across: float
    along: float


def frame(width: float, height: float, rng: random.Random) -> Cell:
    """Returns the part of an image that is used: all of it, or with margins that may be large and uneven.

    Args:
        width: width of the image in units of its shorter edge.
        height: height of the image in the same units.
        rng: source of randomness.
    """
    if rng.random() < 0.5:
        edge = rng.uniform(0.01, 0.05)
        return _box(edge, edge, width - edge, height - edge)
    sides = [rng.uniform(0.02, 0.2) for _ in range(4)]
    return _box(sides[0] * width, sides[1] * height, (1 - sides[2]) * width, (1 - sides[3]) * height)


def _box(left: float, top: float, right: float, bottom: float) -> Cell:
    return Cell((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)


def row(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells side by side, at one height or nearly so.

    Args:
        room: the part of the image to use.
        count: number of cells.
        rng: source of randomness.
    """
    across = room.across / count
    along = min(room.along, across * rng.uniform(1, 1.6))
    level = room.y + rng.uniform(-1, 1) * (room.along - along)
    sway = rng.choice([0, 0, 0, 0.03, 0.06])
    found = []
    for i in range(count):
        y = level + rng.uniform(-sway, sway)
        y = min(max(y, room.y - room.along + along), room.y + room.along - along)
        found.append(Cell(room.x - room.across + (2 * i + 1) * across, y, across, along))
    return found


def column(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells one above another.

    Args:
        room: the part of the image to use.
        count: number of cells.
        rng: source of randomness.
    """
    turned = row(Cell(room.y, room.x, room.along, room.across), count, rng)
    return [Cell(cell.y, cell.x, cell.along, cell.across) for cell in turned]


def diagonal(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells from one corner to the opposite one.

    Args:
        room: the part of the image to use.
        count: number of cells.
        rng: source of randomness.
    """
    across, along, down = room.across / count, room.along / count, rng.choice([-1, 1])
    return [
        Cell(room.x - room.across + step * across, room.y + down * (step * along - room.along), across, along)
        for step in range(1, 2 * count, 2)
    ]


def grid(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells in rows and columns, filled from the first or with gaps anywhere.

    Args:
        room: the part of the image to use.
        count: number of cells.
        rng: source of randomness.
    """
    columns = max(1, min(count, round(math.sqrt(count * room.across / room.along) + rng.uniform(-0.4, 0.6))))
    rows = math.ceil(count / columns)
    across, along = room.across / columns, room.along / rows
    cells = [
        Cell(room.x - room.across + (2 * i + 1) * across, room.y - room.along + (2 * j + 1) * along, across, along)
        for j in range(rows)
        for i in range(columns)
    ]
    return cells[:count] if rng.random() < 0.5 else rng.sample(cells, count)


def ring(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells around the centre; fewer than three stand in a row instead.

    Args:
        room: the part of the image to use.
        count: number of cells.
        rng: source of randomness.
    """
    if count < 3:
        return row(room, count, rng)
    edge = min(room.across, room.along)
    half = edge * math.sin(math.pi / count) / (1 + math.sin(math.pi / count)) * 0.98
    start, reach = rng.choice([0.0, -math.pi / 2, rng.uniform(0, 6.28)]), edge - half
    angles = [start + 2 * math.pi * i / count for i in range(count)]
    half = min(half * 0.9, edge * 0.42)
    return [Cell(room.x + reach * math.cos(a), room.y + reach * math.sin(a), half, half) for a in angles]


def scattered(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells anywhere, of different sizes; fewer where there is no room for more.

    Args:
        room: the part of the image to use.
        count: number of cells at most.
        rng: source of randomness.
    """
    found: list[Cell] = []
    most = math.sqrt(room.across * room.along / count) * rng.uniform(0.6, 0.95)
    for _ in range(60 * count):
        across = most * rng.uniform(0.6, 1)
        along = across * rng.uniform(0.75, 1)
        across, along = min(across, room.across), min(along, room.along)
        x = room.x + rng.uniform(-1, 1) * (room.across - across)
        y = room.y + rng.uniform(-1, 1) * (room.along - along)
        cell = Cell(x, y, across, along)
        if not any(_meet(cell, other) for other in found):
            found.append(cell)
        if len(found) == count:
            break
    return found


def corners(room: Cell, count: int, rng: random.Random) -> list[Cell]:
    """Returns cells in the corners, and a fifth one in the centre.

    Args:
        room: the part of the image to use.
        count: number of cells, at most 5.
        rng: source of randomness.
    """
    across, along = room.across / 3, room.along / 3
    places = [(i, j) for i in (-2, 2) for j in (-2, 2)]
    places = rng.sample(places, min(count, 4)) + [(0, 0)] * (count > 4)
    return [Cell(room.x + i * across, room.y + j * along, across * 0.98, along * 0.98) for i, j in places]


def _meet(one: Cell, other: Cell) -> bool:
    wide, tall = one.across + other.across, one.along + other.along
    return abs(one.x - other.x) < 1.04 * wide and abs(one.y - other.y) < 1.04 * tall


ARRANGEMENTS: dict[Callable[[Cell, int, random.Random], list[Cell]], float] = {
    **{row: 26, column: 14, grid: 16, diagonal: 9, ring: 8, scattered: 24, corners: 3},
}


def arranged(width: float, height: float, count: int, rng: random.Random, room: Cell | None = None) -> list[Cell]:
    """Returns at most `count` cells in one of the arrangements; many cells stand in a grid, a ring or anywhere.

    Args:
        width: width of the image in units of its shorter edge.
        height: height of the image in the same units.
        count: number of cells.
        rng: source of randomness.
        room: the part of the image to use; None for a random `frame`.
    """
    arrange = rng.choices(list(ARRANGEMENTS), list(ARRANGEMENTS.values()))[0]
    if count > 5 and arrange in (diagonal, corners) or count > 7 and arrange in (row, column):
        arrange = grid
    return arrange(room or frame(width, height, rng), count, rng)
