"""Second distribution of scenes, wider than that of `scenes`.

Things in rows, columns, grids, rings, in equal sizes and wide margins; several numbers and words; labels in, under and
beside shapes. `sample_scene` and its seeds stay what they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from .arrangements import Cell, arranged, column, frame, row
from .looks import sample_look
from .scenes import COLORS, SHAPES, TINTS, WORDS, Scene, Text, Thing, chart_contents, contrasting

DIGIT, LETTER = 1.0, 1.2  # widths in bold type, with room, relative to the height of a `Text`
LEAST = 0.085  # least height of letters that the demo's tower can read


def wide_scene(rng: random.Random) -> Scene:
    """Samples a scene from the wide distribution."""
    width, height = rng.choice([(1, 1)] * 5 + [(4 / 3, 1)] * 3 + [(1, 4 / 3), (1.5, 1), (1.8, 1), (1, 1.5)])
    background = rng.choices([*COLORS, *TINTS], [1, 1, 1, 1, 1, 1, 1, 1, 4, 50, 5, 18, 5])[0]
    texture = rng.choices(["plain", "gradient", "grain", "noise", "blotches", "stripes"], [80, 5, 5, 4, 4, 2])[0]
    scene = Scene(width, height, background, texture, look=sample_look(rng))
    rng.choices(list(KINDS), list(KINDS.values()))[0](scene, rng)
    return scene


def _single(scene: Scene, rng: random.Random) -> None:
    """Adds one shape, anywhere, from tiny to as large as the image."""
    radius = rng.choice([rng.uniform(0.06, 0.11), rng.uniform(0.11, 0.25), rng.uniform(0.25, 0.48)])
    middle = rng.random() < 0.4
    x, y = (edge / 2 if middle else rng.uniform(radius, edge - radius) for edge in (scene.width, scene.height))
    scene.things.append(Thing(rng.choice(SHAPES), ink(scene, rng), x, y, radius))


def _mixed(scene: Scene, rng: random.Random) -> None:
    """Adds two to six shapes, mostly all different, in one of the arrangements."""
    count = rng.choices([2, 3, 4, 5, 6], [28, 32, 20, 12, 8])[0]
    _fill(scene, arranged(scene.width, scene.height, count, rng), _different(scene, count, rng), rng)


def _group(scene: Scene, rng: random.Random) -> None:
    """Adds one to six of a shape, in one colour or in many, and a few others among them."""
    count, odd = rng.choices(range(1, 7), [6, 18, 21, 20, 19, 16])[0], rng.choices(range(4), [45, 25, 20, 10])[0]
    shape, color, many = rng.choice(SHAPES), ink(scene, rng), rng.random() < 0.45
    kinds = [(shape, ink(scene, rng) if many else color) for _ in range(count)]
    by_color = rng.random() < 0.35  # the others have the group's shape; otherwise another one
    for _ in range(odd):
        kinds.append((shape if by_color else rng.choice([s for s in SHAPES if s != shape]), ink(scene, rng)))
    rng.shuffle(kinds)
    _fill(scene, arranged(scene.width, scene.height, len(kinds), rng), kinds, rng)


def _one_text(scene: Scene, rng: random.Random) -> None:
    """Adds one number or word, of any size, anywhere; sometimes with a shape or two."""
    text = number(rng) if rng.random() < 0.75 else word(rng)
    beside = rng.choice([0, 0, 1, 2])
    cells = arranged(scene.width, scene.height, 1 + beside, rng)
    at = rng.randrange(len(cells))
    _write(scene, cells[at], text, rng)
    _fill(scene, cells[:at] + cells[at + 1 :], _different(scene, beside, rng), rng)


def _several_texts(scene: Scene, rng: random.Random) -> None:
    """Adds two to four numbers and words, each in a colour of its own, sometimes with shapes."""
    count = rng.choices([2, 3, 4], [64, 28, 8])[0]
    room = frame(scene.width, scene.height, rng)
    arrange = rng.choices([row, column, None], [42, 34, 24])[0]
    beside = rng.choice([0, 0, 0, 1, 2])
    cells = (
        arrange(room, count + beside, rng)
        if arrange
        else arranged(scene.width, scene.height, count + beside, rng, room=room)
    )
    rng.shuffle(cells)
    numbers = rng.random()
    for cell in cells[:count]:
        _write(scene, cell, number(rng) if rng.random() < (1.0 if numbers < 0.55 else 0.5) else word(rng), rng)
    _fill(scene, cells[count:], _different(scene, beside, rng), rng)


def _labelled(scene: Scene, rng: random.Random) -> None:
    """Adds one to four shapes with a number or a word in them."""
    count = rng.choices([1, 2, 3, 4], [25, 40, 25, 10])[0]
    _fill(scene, arranged(scene.width, scene.height, count, rng), _different(scene, count, rng), rng)
    digits = rng.random() < 0.7
    for thing in scene.things:
        if thing.shape not in ("cross", "star", "heart") and thing.radius > 0.13 and rng.random() < 0.85:
            said = number(rng) if digits or rng.random() < 0.4 else word(rng, longest=4)
            thing.text = None if said in _said(scene) or len(said) * 0.05 > thing.radius * 1.15 else said


def _captioned(scene: Scene, rng: random.Random) -> None:
    """Adds shapes with a number or a word under, above or beside each of them."""
    count = rng.choices([1, 2, 3], [35, 45, 20])[0]
    cells = (row if rng.random() < 0.7 else column)(frame(scene.width, scene.height, rng), count, rng)
    side, digits = rng.choice(["below", "below", "above", "right"]), rng.random() < 0.75
    for cell, kind in zip(cells, _different(scene, count, rng), strict=True):
        if side == "right":
            half = cell.across / 2
            shape = Cell(cell.x - half, cell.y, half, cell.along)
            text = Cell(cell.x + half, cell.y, half, cell.along)
        else:
            up = -1 if side == "below" else 1
            shape = Cell(cell.x, cell.y + up * cell.along * 0.35, cell.across, cell.along * 0.6)
            text = Cell(cell.x, cell.y - up * cell.along * 0.65, cell.across, cell.along * 0.35)
        _fill(scene, [shape], [kind], rng)
        _write(scene, text, number(rng) if digits else word(rng, longest=5), rng)


def _sheet(scene: Scene, rng: random.Random) -> None:
    """Adds a title over, or a line under, some shapes or numbers."""
    room, share = frame(scene.width, scene.height, rng), rng.uniform(0.2, 0.32)
    over = rng.random() < 0.75
    edge = -1 if over else 1
    title = Cell(room.x, room.y + edge * room.along * (1 - share), room.across, room.along * share)
    rest = Cell(room.x, room.y - edge * room.along * share, room.across, room.along * (1 - share) * 0.96)
    _write(scene, title, word(rng) if rng.random() < 0.6 else number(rng), rng)
    count = rng.choices([1, 2, 3, 4], [25, 35, 25, 15])[0]
    cells = arranged(scene.width, scene.height, count, rng, room=rest)
    texts = rng.choice([0, 0, 0, 1, 1, 2])
    for cell in cells[:texts]:
        _write(scene, cell, number(rng), rng)
    _fill(scene, cells[texts:], _different(scene, count, rng), rng)


def _fill(scene: Scene, cells: list[Cell], kinds: list[tuple[str, str]], rng: random.Random) -> None:
    """Puts a shape into each cell: all of one size, of nearly one, or of various sizes."""
    if not cells:
        return
    most = min(min(cell.across, cell.along) for cell in cells) * 0.96
    even = min(0.45, most * rng.choice([rng.uniform(0.85, 1), rng.uniform(0.6, 0.95)]))
    manner = rng.choices(["equal", "nearly", "various"], [50, 20, 30])[0]
    for cell, (shape, color) in zip(cells, kinds, strict=False):
        own = min(cell.across, cell.along, 0.47) * 0.96
        radius = {"equal": even, "nearly": even * rng.uniform(0.88, 1), "various": own * rng.uniform(0.45, 1)}[manner]
        scene.things.append(Thing(shape, color, cell.x, cell.y, max(radius, min(own, 0.055))))


def _write(scene: Scene, cell: Cell, text: str, rng: random.Random) -> None:
    """Writes a text as large as its cell allows or smaller, unless it could not be read or is there already."""
    width = (DIGIT if text.isdigit() else LETTER) * len(text)
    room = min(0.5, 1.5 * cell.along, 2 * cell.across / width)
    if room < LEAST or text in _said(scene):
        return
    color = next(c for c in iter(lambda: contrasting(scene.background, rng), None) if _free(scene, c, rng))
    height = max(LEAST, room * rng.choice([1.0, rng.uniform(0.45, 1)]))
    scene.texts.append(Text(text, color, cell.x, cell.y, height))


def _free(scene: Scene, color: str, rng: random.Random) -> bool:
    """Whether a text may have a colour: mostly one that no other text has."""
    return color not in {text.color for text in scene.texts} or rng.random() < 0.12


def _said(scene: Scene) -> set[str]:
    return {text.text for text in scene.texts} | {thing.text for thing in scene.things if thing.text}


def _different(scene: Scene, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Shapes and colours, mostly no two alike in either."""
    if rng.random() < 0.35:
        return [(rng.choice(SHAPES), ink(scene, rng)) for _ in range(count)]
    found: list[tuple[str, str]] = []
    for shape in rng.sample(SHAPES, count):
        tries = (ink(scene, rng) for _ in range(12))
        found.append((shape, next((c for c in tries if c not in {color for _, color in found}), "green")))
    return [kind if kind[1] != scene.background else (kind[0], ink(scene, rng)) for kind in found]


def ink(scene: Scene, rng: random.Random) -> str:
    """Returns the colour of a shape; on white, people use yellow and pink, too.

    Args:
        scene: gives the background.
        rng: source of randomness.
    """
    if scene.background == "white" and rng.random() < 0.18:
        return rng.choice(["yellow", "pink"])
    return contrasting(scene.background, rng)


def number(rng: random.Random) -> str:
    """Number of one to four digits, as a text."""
    digits = rng.choices([1, 2, 3, 4], [24, 48, 20, 8])[0]
    return str(rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1))


def word(rng: random.Random, longest: int = 6) -> str:
    """Returns a short word, often in capitals.

    Args:
        rng: source of randomness.
        longest: number of letters at most.
    """
    said = rng.choice([word for word in WORDS if len(word) <= longest])
    return rng.choices([said.upper(), said, said.capitalize()], [5, 3, 2])[0]


KINDS: dict[Callable[[Scene, random.Random], None], float] = {
    **{_single: 6, _mixed: 23, _group: 19, _one_text: 15, _several_texts: 22, _labelled: 6, _captioned: 6, _sheet: 5},
    **{chart_contents: 4},
}
