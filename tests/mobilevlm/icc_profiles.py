"""ICC profiles made from their numbers: matrix profiles of RGB spaces, and a press's table of inks."""

from __future__ import annotations

import struct

import numpy as np

# Columns: XYZ of red, green, blue, adapted to D50.
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
D50 = (0.9642, 1.0, 0.8249)


def rgb_profile(colorants: np.ndarray, gamma: float) -> bytes:
    """Makes a matrix profile.

    Args:
        colorants: 3 x 3, as above.
        gamma: of all channels.
    """
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": _xyz(D50)}
    for index, name in enumerate("rgb"):
        tags[f"{name}XYZ".encode()] = _xyz(colorants[:, index])
        tags[f"{name}TRC".encode()] = curve
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def ink_profile() -> bytes:
    """Makes a profile of CMYK whose table has the two ends of each ink."""
    same = bytes(range(256))
    colors = []
    for corner in range(16):
        cyan, magenta, yellow, black = (corner >> shift & 1 for shift in (3, 2, 1, 0))
        light = 100 * (1 - 0.4 * cyan) * (1 - 0.5 * magenta) * (1 - 0.1 * yellow) * (1 - black)
        a, b = (-35 * cyan + 70 * magenta) * (1 - black), (-45 * cyan + 85 * yellow) * (1 - black)
        colors += [round(light * 2.55), round(a + 128), round(b + 128)]
    table = b"mft1" + struct.pack(">IBBBx9i", 0, 4, 3, 2, *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table += same * 4 + bytes(min(255, max(0, value)) for value in colors) + same * 3
    inks = []
    for corner in range(8):  # light, a and b of a printer that only knows black and, for colours, all inks
        light, a, b = (corner >> shift & 1 for shift in (2, 1, 0))
        inks += [255 * (1 - a), 255 * a, 255 * b, 255 * (1 - light)]
    back = b"mft1" + struct.pack(">IBBBx9i", 0, 3, 4, 2, *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    back += same * 3 + bytes(inks) + same * 4
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"B2A0": back, b"wtpt": _xyz(D50)})


def to_srgb(pixels: np.ndarray, colorants: np.ndarray, gamma: float) -> np.ndarray:
    """Converts pixels of a matrix profile to sRGB by its formulas, (..., 3) uint8 to uint8."""
    linear = (pixels / 255) ** (round(gamma * 256) / 256) @ (np.linalg.inv(SRGB) @ colorants).T
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(encoded * 255).astype(np.uint8)


def _xyz(values: np.ndarray | tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(value) * 65536) for value in values))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for a test\0"
    tags = tags | {b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)}
    tags |= {b"cprt": b"text\0\0\0\0none\0"}
    directory, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        directory += name + struct.pack(">II", start + len(body), len(content))
        body += content
    head = bytearray(128)
    head[0:4] = struct.pack(">I", start + len(body))
    head[8:12], head[12:16], head[16:20], head[20:24], head[36:40] = b"\x02\x40\0\0", kind, space, connection, b"acsp"
    head[24:36] = struct.pack(">6H", 2020, 1, 1, 0, 0, 0)
    head[68:80] = struct.pack(">3i", *(round(value * 65536) for value in D50))
    return bytes(head) + directory + body
