"""Images in tiles (Idefics3's `do_image_splitting`): squares of the tower's size, row by row, then the whole image.

Such an image is one array (rows + 1, columns, 3, H, H): its tiles, and in the last row the whole image with zeros
behind it. An image that is one square alone is (1, 3, H, H), as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
from PIL import Image

from .resize import resized


def longest_edge_size(size: tuple[int, int], edge: int) -> tuple[int, int]:
    """Width and height with a longer edge of `edge` pixels; the other one keeps the shape, and is even or 1.

    Args:
        size: width and height of the image.
        edge: pixels.
    """
    width, height = size
    ratio = width / height  # and the roundings that Idefics3's processor has
    other = int(edge / ratio) if width >= height else int(edge * ratio)
    other = max(other + other % 2, 1)
    return (edge, other) if width >= height else (other, edge)


def tiled_size(size: tuple[int, int], tile: int) -> tuple[int, int]:
    """Width and height that whole tiles fill: the longer edge is rounded up first, then the other one.

    Args:
        size: width and height of the image.
        tile: pixels of a tile's edge.
    """
    width, height = size
    ratio = width / height
    if width >= height:
        width = ceil(width / tile) * tile
        return width, ceil(int(width / ratio) / tile) * tile
    height = ceil(height / tile) * tile
    return ceil(int(height * ratio) / tile) * tile, height


def tiles(image: Image.Image, tile: int, resample: int, normalised: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
    """Cut an image into tiles.

    Args:
        image: mode RGB.
        tile: pixels of a tile's edge, H.
        resample: filter, as Pillow numbers them.
        normalised: a square as the tower takes it, (1, 3, H, H) float32.

    Returns:
        (rows + 1, columns, 3, H, H) float32, or (1, 3, H, H) where one tile holds all.
    """
    image = resized(image, tiled_size(image.size, tile), resample)
    columns, rows = (side // tile for side in image.size)
    if rows * columns == 1:
        return normalised(image)
    found = np.zeros((rows + 1, columns, 3, tile, tile), np.float32)
    for row in range(rows):
        for column in range(columns):
            left, top = column * tile, row * tile
            found[row, column] = normalised(image.crop((left, top, left + tile, top + tile)))[0]
    found[rows, 0] = normalised(resized(image, (tile, tile), resample))[0]
    return found


def is_tiled(pixels: np.ndarray, square: tuple[int, ...]) -> bool:
    """Whether an array is an image in tiles.

    Args:
        pixels: of the image.
        square: shape of one, (1, 3, H, H).
    """
    return pixels.ndim == 5 and pixels.shape[2:] == square[1:] and pixels.shape[0] > 1 and pixels.shape[1] > 0


def grid_of(pixels: np.ndarray) -> tuple[int, int]:
    """Rows and columns of an image's tiles, (0, 0) where there are none."""
    return (pixels.shape[0] - 1, pixels.shape[1]) if pixels.ndim == 5 else (0, 0)


def squares_of(pixels: np.ndarray) -> list[np.ndarray]:
    """Squares of an image, each as the vision stage takes it, (1, 3, H, H), in the order of a prompt."""
    if pixels.ndim != 5:
        return [pixels]
    rows, columns = grid_of(pixels)
    places = [(row, column) for row in range(rows) for column in range(columns)] + [(rows, 0)]
    return [pixels[row, column][None] for row, column in places]
