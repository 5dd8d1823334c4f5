"""A file whose readers are bounded: a header that sends a reader in circles ends as an error, not after hours."""

from __future__ import annotations

import io
from typing import BinaryIO

from .image_error import ImageError

_FREE_BYTES = 16 << 20
_FREE_READS, _MOST_READS = 100_000, 1_000_000  # some readers take byte by byte


class MeteredFile(io.BufferedIOBase, BinaryIO):
    """Binary file that can be read twice over, in not too many pieces.

    Args:
        file: opened for reading, seekable.
        size: of the file, in bytes.
        name: of the image, for the error.
    """

    def __init__(self, file: BinaryIO, size: int, name: str):
        super().__init__()
        self._file, self._name = file, name
        self._bytes, self._reads = 2 * size + _FREE_BYTES, min(_FREE_READS + 2 * size, _MOST_READS)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads at most `size` bytes, all for a negative one.

        Raises:
            ImageError: the reader took more than an image needs.
        """
        content = self._file.read(-1 if size is None else size)
        self._spend(len(content))
        return content

    def readline(self, size: int | None = -1, /) -> bytes:
        """Reads a line, as `read` does."""
        line = self._file.readline(-1 if size is None else size)
        self._spend(len(line))
        return line

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves to a position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Returns the position."""
        return self._file.tell()

    def _spend(self, count: int) -> None:
        self._bytes -= count
        self._reads -= 1
        if self._bytes < 0 or self._reads < 0:
            raise ImageError(
                f"{self._name} is damaged: its parts refer to each other more often than an image's do. "
                "Copy it again or save it anew as PNG."
            )
