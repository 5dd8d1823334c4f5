"""int8 weights of a prefill, computed from the decoder's int4 weights when a bundle opens: no weight is stored twice.

A prefill multiplies many rows, for which int8 products are the quickest; a decode step multiplies one, and reads half
as much in int4. The int8 values are the nearest to the int4 weights, which costs nothing beside int4's own error.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from ..json_file import read_json_file
from ..manifest import Name, Rows, Size, Text
from ..typed_json import Between, typed

LARGEST_PLACES = 1 << 24  # bytes of the file
ROWS = 64  # of a matrix at a time: they stay in a core's cache


@dataclass(frozen=True)
class Int4Matrix:
    """Location of the int4 form of a prefill's (K, N) int8 weight in the decoder's weights file.

    As `MatMulNBits` stores it: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

    Attributes:
        name: initializer of the int8 weight in the prefill's graph.
        outputs: N.
        inputs: K.
        block: weights of an output that share a scale, an even number.
        values: offset of (N, blocks, block / 2) uint8, two weights to a byte, low half first.
        scales: offset of (N, blocks) float32.
        zero_points: offset of (N, ceil(blocks / 2)) uint8, two to a byte.
        int8_scales: offset of (N,) float32 in the prefill's own file of weights.
    """

    name: Text
    outputs: Rows
    inputs: Rows
    block: Annotated[int, Between(2, 2**20)]
    values: Size
    scales: Size
    zero_points: Size
    int8_scales: Size

    def as_int8(self, decoder: Path, own: Path) -> np.ndarray:
        """Computes the int8 weight.

        Args:
            decoder: the decoder's file of weights.
            own: the prefill's.

        Returns:
            (K, N) int8.

        Raises:
            ValueError: a file is too short.
        """
        blocks = -(-self.inputs // self.block)

        def read(path: Path, offset: int, dtype: type, *shape: int) -> np.ndarray:
            return np.memmap(path, dtype, "r", offset, shape)

        values = read(decoder, self.values, np.uint8, self.outputs, blocks, self.block // 2)
        scales = read(decoder, self.scales, np.float32, self.outputs, blocks)
        points = read(decoder, self.zero_points, np.uint8, self.outputs, -(-blocks // 2))
        points = np.stack([points & 15, points >> 4], -1).reshape(self.outputs, -1)[:, :blocks]
        int8_scales = read(own, self.int8_scales, np.float32, self.outputs)
        return to_int8(values, scales, points, int8_scales)[: self.inputs]


def to_int8(values: np.ndarray, scales: np.ndarray, zero_points: np.ndarray, int8_scales: np.ndarray) -> np.ndarray:
    """Requantises int4 weights to int8: the same bits on every machine, since no sum is rounded.

    Args:
        values: (N, blocks, block / 2) uint8, two to a byte.
        scales: (N, blocks) float32.
        zero_points: (N, blocks) uint8.
        int8_scales: (N,) float32, of a column each.

    Returns:
        (blocks * block, N) int8.
    """
    outputs, blocks, half = values.shape
    int8 = np.empty((blocks * half * 2, outputs), np.int8)
    for start in range(0, outputs, ROWS):
        part = slice(start, start + ROWS)
        rows = values[part]
        points, factors = zero_points[part, :, None].astype(np.float32), scales[part, :, None]
        for place, nibbles in enumerate((rows & 15, rows >> 4)):
            weights = nibbles.astype(np.float32)
            weights -= points
            weights *= factors
            weights /= int8_scales[part, None, None]
            np.rint(weights, out=weights)
            int8[place::2, part] = weights.astype(np.int8).reshape(len(rows), -1).T
    return int8


def write_places(path: Path, parts: dict[str, list[Int4Matrix]]) -> None:
    """Writes the locations of a prefill's matrices.

    Args:
        path: of the file, `INT4_PLACES_FILE` of the bundle.
        parts: matrices by the name of their graph.
    """
    path.write_text(json.dumps({part: [asdict(one) for one in found] for part, found in parts.items()}, indent=1))


def read_places(path: Path) -> dict[str, list[Int4Matrix]]:
    """Reads what `write_places` wrote.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    return typed(dict[Name, list[Int4Matrix]], read_json_file(path, LARGEST_PLACES)[0], path.name)
