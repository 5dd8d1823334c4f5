"""A brush that draws a scene's things, texts and charts on a canvas, and notes where it has drawn what."""

from __future__ import annotations

import colorsys
import math
import random
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from .looks import Look, wide_outline
from .outlines import outline
from .scenes import COLORS, TINTS, Chart, Scene, Text, Thing

Color = tuple[int, int, int]
Region = dict[str, str | list[float]]  # as `regions` of a training row has it


def shade(name: str, rng: random.Random) -> Color:
    """Returns some RGB value that people call by a colour's name, 0 to 255 per channel.

    Args:
        name: a key of `COLORS` or `TINTS`.
        rng: source of randomness.
    """
    hue, saturation, value = (rng.uniform(*bounds) for bounds in (COLORS | TINTS)[name])
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation / 100, value / 100)
    return round(255 * red), round(255 * green), round(255 * blue)


class Brush:
    """Draws on a canvas in units of the image's shorter edge, in one style for the whole image.

    Args:
        canvas: the RGB image to draw on.
        unit: pixels in the image's shorter edge.
        rng: source of the details.
        look: style of a wide scene; None for the usual variety.
    """

    def __init__(self, canvas: Image.Image, unit: float, rng: random.Random, look: Look | None = None):
        self.canvas, self.unit, self.rng, self.look = canvas, unit, rng, look
        self.pen = ImageDraw.Draw(canvas)
        self.regions: list[Region] = []
        self.style = rng.choices(["filled", "framed", "hollow"], [72, 18, 10])[0]
        self.frame = (0, 0, 0) if rng.random() < 0.7 else (90, 90, 90)
        self.font = rng.choice(font_files())
        self.shadow = unit * rng.uniform(0.008, 0.02) if self.style == "filled" and rng.random() < 0.08 else 0
        self.shade_of_shadow = tuple(round(0.8 * c) for c in _color_at(canvas, 1, 1))
        if look:
            self.style, self.shadow = look.style, 0
        self.seed = rng.getrandbits(32) if look and look.alike else None

    def thing(self, thing: Thing) -> None:
        """Draws a shape, and the text in it."""
        rng, unit = self.rng, self.unit
        look, shape, radius = self.look, thing.shape, thing.radius
        points = wide_outline(shape, radius, look, self._dice(shape)) if look else outline(shape, radius, rng)
        corners = [((thing.x + x) * unit, (thing.y + y) * unit) for x, y in points]
        xs, ys = zip(*corners, strict=True)
        self._tell((min(xs), min(ys), max(xs), max(ys)), kind=thing.shape, color=thing.color)
        color = shade(thing.color, self._dice(thing.color))
        if self.shadow:
            self.pen.polygon([(x + self.shadow, y + self.shadow) for x, y in corners], fill=self.shade_of_shadow)
        if self.style == "hollow" and (look or not thing.text):
            if look:  # the line lies inside the outline, so that thin circles are round
                self.pen.polygon(corners, outline=color, width=max(2, round(radius * unit * look.line)))
            else:
                width = max(2, round(radius * unit * rng.uniform(0.14, 0.24)))
                self.pen.line([*corners, corners[0], corners[1]], fill=color, width=width, joint="curve")
        else:
            self.pen.polygon(corners, fill=color)
            if self.style == "framed":
                width = max(1, round(thing.radius * unit * (look.line / 2 if look else rng.uniform(0.03, 0.1))))
                self.pen.line([*corners, corners[0], corners[1]], fill=self.frame, width=width, joint="curve")
        if thing.text:
            self._label(thing, thing.text, color)

    def _dice(self, name: str) -> random.Random:
        """Source of details: the same for the same name where things of one name look alike."""
        return self.rng if self.seed is None else random.Random(f"{self.seed} {name}")

    def _label(self, thing: Thing, text: str, color: Color) -> None:
        """Writes the text in a shape; behind it is the shape's colour, or in a hollow shape the background."""
        dark = sum(color) < 330 or thing.color in ("blue", "purple", "black", "brown")
        y = thing.y + (0.2 * thing.radius if thing.shape == "triangle" else 0)
        if self.look and self.style == "hollow":
            dark = sum(_color_at(self.canvas, round(thing.x * self.unit), round(y * self.unit))) < 330
        height = thing.radius * min(0.9, 2 / len(text))
        if self.look:
            height = thing.radius * min(0.8, 1.3 / len(text))
        self._write(text, thing.x, y, height, (255, 255, 255) if dark else (0, 0, 0))

    def text(self, text: Text) -> None:
        """Writes a word or number."""
        self._write(text.text, text.x, text.y, text.height, shade(text.color, self.rng), color=text.color)

    def _write(self, text: str, x: float, y: float, height: float, ink: Color, **shown: str) -> None:
        font = _font(self.font, max(6, round(height * self.unit * 1.3)))
        stroke = round(height * self.unit * 0.03) if self.rng.random() < 0.2 else 0
        place = (x * self.unit, y * self.unit)
        self.pen.text(place, text, fill=ink, font=font, anchor="mm", stroke_width=stroke)
        left, top, right, bottom = self.pen.textbbox(place, text, font=font, anchor="mm")
        start = left
        for number, character in enumerate(text, 1):
            end = left + (right - left) * font.getlength(text[:number]) / font.getlength(text)
            self._tell((start, top, end, bottom), kind=character.upper(), **shown)
            start = end

    def _tell(self, box: tuple[float, float, float, float], **shown: str) -> None:
        ends = self.canvas.size * 2
        self.regions.append({"box": [round(edge / end, 4) for edge, end in zip(box, ends, strict=True)]} | shown)

    def chart(self, chart: Chart, scene: Scene) -> None:
        """Draws a chart over the whole image.

        Args:
            chart: what to draw.
            scene: the scene that it belongs to, for the image's size.
        """
        left, top = 0.12 * self.unit, 0.1 * self.unit
        right, bottom = (scene.width - 0.08) * self.unit, (scene.height - 0.1) * self.unit
        (self._bars if chart.kind == "bar" else self._pie)(chart, left, top, right, bottom)

    def _bars(self, chart: Chart, left: float, top: float, right: float, bottom: float) -> None:
        ink = (0, 0, 0) if sum(_color_at(self.canvas, 2, 2)) > 300 else (255, 255, 255)
        step, gap = (right - left) / len(chart.values), self.rng.uniform(0.1, 0.4)
        for i, (name, value) in enumerate(zip(chart.colors, chart.values, strict=True)):
            x = left + i * step
            box = (x + step * gap / 2, bottom - value * (bottom - top), x + step * (1 - gap / 2), bottom)
            self._tell(box, kind="bar", color=name)
            self.pen.rectangle(box, fill=shade(name, self.rng), outline=ink if self.style == "framed" else None)
        width = max(1, round(0.008 * self.unit))
        self.pen.line([(left, top), (left, bottom), (right, bottom)], fill=ink, width=width)

    def _pie(self, chart: Chart, left: float, top: float, right: float, bottom: float) -> None:
        radius = min(right - left, bottom - top) / 2
        x, y, start = (left + right) / 2, (top + bottom) / 2, self.rng.uniform(0, 360)
        for name, value in zip(chart.colors, chart.values, strict=True):
            end = start + 360 * value / sum(chart.values)
            middle = math.radians((start + end) / 2)
            at_x, at_y, half = x + radius * 0.6 * math.cos(middle), y + radius * 0.6 * math.sin(middle), radius / 5
            self._tell((at_x - half, at_y - half, at_x + half, at_y + half), kind="slice", color=name)
            self.pen.pieslice((x - radius, y - radius, x + radius, y + radius), start, end, fill=shade(name, self.rng))
            start = end


def _color_at(canvas: Image.Image, x: int, y: int) -> Color:
    pixel = canvas.getpixel((x, y))
    assert isinstance(pixel, tuple)  # as every RGB image has them
    red, green, blue = pixel
    return red, green, blue


@cache
def font_files() -> tuple[str, ...]:
    """Latin fonts that matplotlib brings, so that every machine draws the same images."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    names = (
        "DejaVuSans*",
        "DejaVuSerif*",
        "STIXGeneral.ttf",
        "STIXGeneralBol.ttf",
        "cmr10.ttf",
        "cmss10.ttf",
        "cmb10.ttf",
    )
    files = [str(path) for name in names for path in folder.glob(name) if "Display" not in path.name]
    plain = str(folder / "DejaVuSans.ttf")
    return tuple(sorted(files)) + (plain,) * 4 + (str(folder / "DejaVuSans-Bold.ttf"),) * 4 + ("",) * 3


@cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
