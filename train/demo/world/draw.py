"""From a scene to pixels, with the variety of people's drawings: fonts, outlines, shading, noise, compression."""

from __future__ import annotations

import colorsys
import math
import random
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .looks import Look, wide_outline
from .outlines import outline
from .scenes import COLORS, TINTS, Chart, Scene, Text, Thing

Color = tuple[int, int, int]
OVERSAMPLING = 2
Region = dict[str, str | list[float]]  # as `regions` of a training row has it


def draw_scene(scene: Scene, rng: random.Random, edge: int, regions: list[Region] | None = None) -> Image.Image:
    """Draw a scene.

    Args:
        scene: what to draw.
        rng: decides the details.
        edge: length of the longer edge in pixels.
        regions: gets a box (left, top, right, bottom, as fractions of width and height) and what it holds for
            everything drawn: `kind` (a shape, a bar, a character in capitals) and perhaps `color`.

    Returns:
        An RGB picture.
    """
    smooth = scene.look.smooth if scene.look else rng.random() < 0.85
    unit = edge * (OVERSAMPLING if smooth else 1) / max(scene.width, scene.height)
    canvas = _background(scene, rng, round(scene.width * unit), round(scene.height * unit))
    brush = Brush(canvas, unit, rng, scene.look)
    for thing in scene.things:
        brush.thing(thing)
    for text in scene.texts:
        brush.text(text)
    if scene.chart:
        brush.chart(scene.chart, scene)
    if regions is not None:
        regions += brush.regions
    if smooth:
        canvas = canvas.resize((round(scene.width * unit / 2), round(scene.height * unit / 2)), Image.Resampling.BOX)
    return _age(canvas, rng, scene.texture == "grain") if scene.look is None or scene.look.aged else canvas


def shade(name: str, rng: random.Random) -> Color:
    """Some RGB value a person would call by this name."""
    hue, saturation, value = (rng.uniform(*bounds) for bounds in (COLORS | TINTS)[name])
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue % 360 / 360, saturation / 100, value / 100))


class Brush:
    """Draws on a canvas in units of the picture's shorter edge, in one style for the whole picture."""

    def __init__(self, canvas: Image.Image, unit: float, rng: random.Random, look: Look | None = None):
        self.canvas, self.unit, self.rng, self.look = canvas, unit, rng, look
        self.pen = ImageDraw.Draw(canvas)
        self.regions: list[Region] = []
        self.style = rng.choices(["filled", "framed", "hollow"], [72, 18, 10])[0]
        self.frame = (0, 0, 0) if rng.random() < 0.7 else (90, 90, 90)
        self.font = rng.choice(font_files())
        self.shadow = unit * rng.uniform(0.008, 0.02) if self.style == "filled" and rng.random() < 0.08 else 0
        self.shade_of_shadow = tuple(round(0.8 * c) for c in canvas.getpixel((1, 1)))
        if look:
            self.style, self.shadow = look.style, 0
        self.seed = rng.getrandbits(32) if look and look.alike else None

    def thing(self, thing: Thing) -> None:
        """Draw a shape, and the text in it."""
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
            if look:  # what lies inside of the outline, so that thin circles are round
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
            self._label(thing, color)

    def _dice(self, name: str) -> random.Random:
        """What decides details: the same every time for the same name where a picture's things are alike."""
        return self.rng if self.seed is None else random.Random(f"{self.seed} {name}")

    def _label(self, thing: Thing, color: Color) -> None:
        """Write the text in a shape: what is behind it is the shape's colour, in a hollow one the background."""
        dark = sum(color) < 330 or thing.color in ("blue", "purple", "black", "brown")
        y = thing.y + (0.2 * thing.radius if thing.shape == "triangle" else 0)
        if self.look and self.style == "hollow":
            dark = sum(self.canvas.getpixel((round(thing.x * self.unit), round(y * self.unit)))) < 330
        height = thing.radius * min(0.9, 2 / len(thing.text))
        if self.look:
            height = thing.radius * min(0.8, 1.3 / len(thing.text))
        self._write(thing.text, thing.x, y, height, (255, 255, 255) if dark else (0, 0, 0))

    def text(self, text: Text) -> None:
        """Write a word or number, now and then on a plate of its own."""
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
        """Draw a chart over the whole picture."""
        left, top = 0.12 * self.unit, 0.1 * self.unit
        right, bottom = (scene.width - 0.08) * self.unit, (scene.height - 0.1) * self.unit
        (self._bars if chart.kind == "bar" else self._pie)(chart, left, top, right, bottom)

    def _bars(self, chart: Chart, left: float, top: float, right: float, bottom: float) -> None:
        ink = (0, 0, 0) if sum(self.canvas.getpixel((2, 2))) > 300 else (255, 255, 255)
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


def _background(scene: Scene, rng: random.Random, width: int, height: int) -> Image.Image:
    color = np.array(shade(scene.background, rng), np.float32)
    if scene.texture in ("plain", "grain"):
        return Image.new("RGB", (width, height), tuple(int(c) for c in color))
    if scene.texture == "noise":
        return _noisy(np.broadcast_to(color, (height, width, 3)), rng.uniform(8, 70), rng)
    # What varies over the picture stays within the colour's name: some 20 gray levels.
    depth = rng.uniform(10, 22)
    if scene.texture == "gradient":
        angle = rng.uniform(0, 2 * math.pi)
        ys, xs = np.mgrid[0:height, 0:width]
        field = np.cos(angle) * xs / width + np.sin(angle) * ys / height
    elif scene.texture == "stripes":
        ys, xs = np.mgrid[0:height, 0:width]
        period = max(4, width * rng.uniform(0.05, 0.15))
        field = ((xs if rng.random() < 0.5 else ys) // (period / 2) % 2).astype(np.float32)
    else:
        cells = rng.randint(3, 9)
        noise = np.random.default_rng(rng.getrandbits(32)).uniform(0, 255, (cells, cells)).astype(np.uint8)
        field = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    field = (field - field.min()) / max(float(np.ptp(field)), 1e-6) - 0.5
    pixels = np.clip(color + 2 * depth * field[..., None], 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def _noisy(pixels: np.ndarray, strength: float, rng: random.Random) -> Image.Image:
    """Gaussian noise, coloured or gray, fine or in coarse cells; now and then salt and pepper."""
    noise = np.random.default_rng(rng.getrandbits(32))
    height, width, _ = pixels.shape
    if rng.random() < 0.2:
        salted, chance = np.array(pixels), noise.random((height, width))
        share = strength / 1500
        salted[chance < share], salted[chance > 1 - share] = 0, 255
        return Image.fromarray(salted.astype(np.uint8))
    cell = rng.choice([1, 1, 2, 4])
    grain = noise.normal(0, strength, (-(-height // cell), -(-width // cell), rng.choice([1, 3])))
    grain = grain.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _age(canvas: Image.Image, rng: random.Random, grainy: bool) -> Image.Image:
    """What happens to a picture on its way: blur, grain, compression."""
    if rng.random() < 0.1:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    if grainy:
        canvas = _noisy(np.asarray(canvas), rng.uniform(4, 26), rng)
    if rng.random() < 0.3:
        file = BytesIO()
        canvas.save(file, "JPEG", quality=rng.randint(60, 92))
        canvas = Image.open(file).convert("RGB")
    return canvas


@cache
def font_files() -> tuple[str, ...]:
    """The Latin fonts that matplotlib brings, so that every machine draws the same pictures."""
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
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)
