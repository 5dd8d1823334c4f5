"""Conversion of a scene to an image, with the variety of people's drawings: backgrounds, noise, compression."""

from __future__ import annotations

import math
import random
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from .brush import Brush, Region, shade
from .scenes import Scene

OVERSAMPLING = 2


def draw_scene(scene: Scene, rng: random.Random, edge: int, regions: list[Region] | None = None) -> Image.Image:
    """Draws a scene.

    Args:
        scene: what to draw.
        rng: source of the details.
        edge: length of the longer edge in pixels.
        regions: gets a box (left, top, right, bottom, as fractions of width and height) and what it holds for
            everything drawn: `kind` (a shape, a bar, a character in capitals) and perhaps `color`.

    Returns:
        An RGB image.
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


def _background(scene: Scene, rng: random.Random, width: int, height: int) -> Image.Image:
    color = np.array(shade(scene.background, rng), np.float32)
    if scene.texture in ("plain", "grain"):
        return Image.new("RGB", (width, height), tuple(int(c) for c in color))
    if scene.texture == "noise":
        return _noisy(np.broadcast_to(color, (height, width, 3)), rng.uniform(8, 70), rng)
    # Variation over the image stays within the colour's name: some 20 gray levels.
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
    """Image with Gaussian noise, coloured or gray, fine or in coarse cells, or sometimes with salt and pepper."""
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
    """Image after blur, grain and compression, each with some probability."""
    if rng.random() < 0.1:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    if grainy:
        canvas = _noisy(np.asarray(canvas), rng.uniform(4, 26), rng)
    if rng.random() < 0.3:
        file = BytesIO()
        canvas.save(file, "JPEG", quality=rng.randint(60, 92))
        canvas = Image.open(file).convert("RGB")
    return canvas
