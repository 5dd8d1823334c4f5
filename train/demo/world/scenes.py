"""Scenes: shapes, words, numbers and charts on a background, sampled from a seed.

A scene says everything that captions and questions are about; details of its looks (shading, noise) are left to
`draw`. Coordinates are fractions of the image's shorter edge, y downwards.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from .looks import Look

# Colours that people call by a name: hue range in degrees, saturation and value ranges in percent. The colours of
# CSS, matplotlib and design palettes that bear these names are among them.
COLORS: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "red": ((-8, 7), (70, 100), (70, 100)),
    "orange": ((22, 40), (85, 100), (90, 100)),
    "yellow": ((46, 62), (70, 100), (86, 100)),
    "green": ((95, 150), (45, 100), (40, 100)),
    "blue": ((203, 245), (60, 100), (50, 100)),
    "purple": ((266, 304), (40, 100), (45, 98)),
    "pink": ((312, 350), (22, 66), (88, 100)),
    "brown": ((0, 30), (46, 85), (30, 66)),
    "black": ((0, 360), (0, 8), (0, 13)),
    "white": ((0, 360), (0, 3), (96, 100)),
    "gray": ((0, 360), (0, 9), (38, 70)),
}
# Backgrounds that have no name anybody would agree on: nothing is said or asked about their colour.
TINTS = {"pale": ((0, 360), (5, 30), (86, 100)), "dark": ((0, 360), (20, 75), (10, 34))}
SHAPES = (
    *("circle", "square", "triangle", "star", "rectangle"),
    *("oval", "diamond", "heart", "cross", "hexagon"),
)
MAX_COUNT = 6
WORDS = tuple(
    "stop go open exit cat dog sun moon tree book fish bird milk tea cup hat car bus taxi hotel cafe shop sale "
    "free new hot cold yes no up down left right start end push pull home park bank food water fire ice red "
    "blue love hello world apple star ship road bread music north south east west zoo map key box pen".split()
)


@dataclass
class Thing:
    """One shape; `radius` is the radius of the circle around it."""

    shape: str
    color: str
    x: float
    y: float
    radius: float
    text: str | None = None

    @property
    def name(self) -> str:
        """Colour and shape, which another thing may have, too."""
        return f"{self.color} {self.shape}"

    @property
    def size(self) -> str | None:
        """Size in words: `small` or `big`; None in between, where people would hesitate."""
        return "small" if self.radius < 0.11 else "big" if self.radius > 0.19 else None


@dataclass
class Text:
    """A word or number; `height` is the height of its letters."""

    text: str
    color: str
    x: float
    y: float
    height: float


@dataclass
class Chart:
    """A bar or pie chart: a colour and a value for each part."""

    kind: str
    colors: list[str]
    values: list[float]


@dataclass
class Scene:
    """Contents of an image.

    Attributes:
        width, height: fractions of the shorter edge, so one of them is 1.
        background: colour name, or one of `TINTS`.
        texture: `plain`, `gradient`, `grain` (over everything), `noise` (behind things), `blotches` or `stripes`.
        look: style of a wide scene; None for the usual variety.
    """

    width: float
    height: float
    background: str
    texture: str
    things: list[Thing] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    chart: Chart | None = None
    look: Look | None = None


def sample_scene(rng: random.Random) -> Scene:
    """Samples a scene from the usual distribution."""
    width, height = rng.choice([(1, 1)] * 6 + [(4 / 3, 1), (1, 4 / 3), (1.5, 1)])
    background = rng.choices([*COLORS, *TINTS], [1, 1, 1, 1, 1, 1, 1, 1, 3, 22, 4, 6, 3])[0]
    texture = rng.choices(["plain", "gradient", "grain", "noise", "blotches", "stripes"], [52, 11, 12, 12, 8, 5])[0]
    scene = Scene(width, height, background, texture)
    kind = rng.choices([_objects, _many, _writing, chart_contents], [46, 20, 25, 9])[0]
    kind(scene, rng)
    return scene


def contrasting(color: str, rng: random.Random) -> str:
    """Returns a colour that can be told from another one at a glance.

    Args:
        color: a key of `COLORS` or `TINTS`.
        rng: source of randomness.
    """
    near = {
        "red": ("pink", "orange", "brown", "purple"),
        "orange": ("red", "yellow", "brown", "pink"),
        "yellow": ("orange", "white"),
        "green": (),
        "blue": ("purple",),
        "purple": ("blue", "pink", "red", "brown"),
        "pink": ("red", "purple", "white", "orange"),
        "brown": ("red", "orange", "black", "purple", "gray"),
        "black": ("brown",),
        "white": ("yellow", "pink"),
        "gray": ("brown",),
        "pale": ("white", "pink", "yellow", "gray"),
        "dark": ("black", "brown", "blue", "purple", "green", "gray"),
    }
    weights = [
        0 if name == color or name in near[color] else 0.5 if name in ("white", "gray") else 1 for name in COLORS
    ]
    return rng.choices(list(COLORS), weights)[0]


def _objects(scene: Scene, rng: random.Random) -> None:
    """Adds one to five shapes, mostly all different."""
    count = rng.choices([1, 2, 3, 4, 5], [14, 36, 26, 15, 9])[0]
    for _ in range(count):
        largest = 0.45 if count == 1 else 0.32
        radius = rng.choice([rng.uniform(0.078, 0.107), rng.uniform(0.115, 0.185), rng.uniform(0.195, largest)])
        if scene.things and rng.random() < 0.25:
            radius = scene.things[-1].radius
        _place(scene, rng, rng.choice(SHAPES), contrasting(scene.background, rng), radius)
    if scene.things and rng.random() < 0.12:
        biggest = max(scene.things, key=lambda thing: thing.radius)
        if biggest.radius > 0.17 and biggest.shape not in ("cross", "star"):
            biggest.text = number_or_word(rng, longest=3)


def _many(scene: Scene, rng: random.Random) -> None:
    """Adds the same shape several times, in one colour or in several, sometimes with another shape."""
    shape, color = rng.choice(SHAPES), contrasting(scene.background, rng)
    radius = rng.uniform(0.075, 0.16)
    mixed, aligned, level = rng.random() < 0.35, rng.random() < 0.3, rng.random() < 0.75
    middle = rng.uniform(0.25, 0.75)
    count = rng.randint(1, MAX_COUNT)
    if aligned:  # in a row
        for i in range(count):
            colour = contrasting(scene.background, rng) if mixed else color
            along, across = (i + 0.5) / count, middle
            x, y = (along, across) if level else (across, along)
            scene.things.append(Thing(shape, colour, x * scene.width, y * scene.height, min(radius, 0.42 / count)))
        return
    for _ in range(count):
        colour = contrasting(scene.background, rng) if mixed else color
        _place(scene, rng, shape, colour, radius * rng.uniform(0.85, 1.15))
    for _ in range(rng.choice([0, 0, 1, 2])):
        other = rng.choice([name for name in SHAPES if name != shape])
        _place(scene, rng, other, contrasting(scene.background, rng), radius)


def _writing(scene: Scene, rng: random.Random) -> None:
    """Adds a number or a word, large enough to read, alone or beside a shape or two."""
    beside = rng.choice([0, 0, 1, 2])
    text = number_or_word(rng, longest=6)
    height = rng.uniform(0.14, 0.5 if beside == 0 else 0.28)
    height = min(height, 0.96 * scene.width / (0.86 * len(text)))
    half_width = min(0.43 * len(text) * height, scene.width / 2 - 0.02)
    x = rng.uniform(half_width, scene.width - half_width)
    y = rng.uniform(0.6 * height, scene.height - 0.6 * height)
    scene.texts.append(Text(text, contrasting(scene.background, rng), x, y, height))
    for _ in range(beside):
        _place(scene, rng, rng.choice(SHAPES), contrasting(scene.background, rng), rng.uniform(0.08, 0.15))


def number_or_word(rng: random.Random, longest: int) -> str:
    """Returns a number (two thirds, most of them of two digits) or a word, often in capitals.

    Args:
        rng: source of randomness.
        longest: number of a word's letters at most.
    """
    if rng.random() < 0.66:
        digits = rng.choices([1, 2, 3], [15, 70, 15])[0]
        return str(rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1))
    word = rng.choice([word for word in WORDS if len(word) <= longest])
    return rng.choices([word.upper(), word, word.capitalize()], [6, 2, 2])[0]


def chart_contents(scene: Scene, rng: random.Random) -> None:
    """Adds a chart of two to five parts, the largest and the smallest of them clearly so.

    Args:
        scene: gets the chart, and a white background where its own is coloured.
        rng: source of randomness.
    """
    kind, count = rng.choice(["bar", "bar", "pie"]), rng.randint(2, 5)
    names = [name for name in COLORS if name not in ("black", "white", scene.background)]
    values = [0.12 * step + 0.1 for step in rng.sample(range(8), count)]
    scene.chart = Chart(kind, rng.sample(names, count), values)
    if scene.background not in ("white", "gray", "black"):
        scene.background = "white"


def _place(scene: Scene, rng: random.Random, shape: str, color: str, radius: float) -> None:
    """Puts a shape where it touches nothing, or nowhere after some tries: a scene may hold less than was wished."""
    for _ in range(40):
        x, y = rng.uniform(radius, scene.width - radius), rng.uniform(radius, scene.height - radius)
        clear = all(math.hypot(x - t.x, y - t.y) > 1.03 * (radius + t.radius) for t in scene.things)
        written = all(
            abs(y - t.y) > 0.7 * t.height + radius or abs(x - t.x) > 0.4 * len(t.text) * t.height + radius
            for t in scene.texts
        )
        if clear and written:
            scene.things.append(Thing(shape, color, x, y, radius))
            return
