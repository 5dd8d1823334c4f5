"""What an image may be given as: a file's name, its bytes, an opened file, a Pillow image, a numpy array."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from .image_error import ImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | np.ndarray"
_TAKEN = "a path, the bytes of a file, an open file, a PIL image or a numpy array"


def name_of(source: Any) -> str:
    """Returns how errors name an image."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else f"The given {type(source).__name__}"


@contextmanager
def opened_file(source: Any, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Opens what is a file or the bytes of one, and closes what it opened.

    Args:
        source: not an image or array.
        name: of the image.

    Yields:
        The file, at its beginning, and its size in bytes.

    Raises:
        ImageError: it is missing, empty, a directory, a device or nothing that holds an image.
        OSError: it cannot be opened.
    """
    if isinstance(source, (str, os.PathLike)):
        with open(_checked_path(os.fspath(source), name), "rb") as on_disk:
            yield on_disk, _size_of(on_disk, name)
        return
    file = _file_of(source, name)
    yield file, _size_of(file, name)


def _file_of(source: Any, name: str) -> BinaryIO:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesIO(source)
    if not hasattr(source, "read"):
        raise ImageError(f"{name} is no image. Give {_TAKEN}, several as a list.")
    if source.closed if hasattr(source, "closed") else False:
        raise ImageError(f"{name} is a closed file. Open it again, or pass its path.")
    if isinstance(source, BytesIO):
        return source
    if hasattr(source, "seekable") and source.seekable():
        source.seek(0)
    content = source.read()  # of any class; the file is left open
    if not isinstance(content, bytes):
        raise ImageError(f"{name} reads as {type(content).__name__}, not bytes. Open the file in binary mode: 'rb'.")
    return BytesIO(content)


def _size_of(file: BinaryIO, name: str) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes). Copy or download it again.")
    return size


def _checked_path(text: str, name: str) -> Path:
    path = Path(text)
    if not text:
        raise ImageError("The name of the image is empty. Give the path of an image.")
    if path.is_dir():
        raise ImageError(f"{name} is a directory. Name one image in it.")
    if not path.exists():
        raise ImageError(f"{name} does not exist. Check the path, it starts from {Path.cwd()}.")
    if not path.is_file():
        raise ImageError(f"{name} is a pipe or a device, not a file. Save the image to a file first.")
    return path
