"""A kept prefix in a file: for one bundle, complete and unaltered, or refused.

| bytes  | content                                                                                    |
|--------|--------------------------------------------------------------------------------------------|
| 8      | `MLMPREFX`                                                                                 |
| 4 + 4  | version of this layout, length of the header (unsigned, little-endian)                      |
| header | JSON: `bundle` (the manifest's seal), `dtype`, `rows` ([2 * layers, G, tokens, W]), `tokens`: |
|        | token ids, and the sha256 of an image's pixels where an image is                           |
| rows   | each piece's, one behind the other                                                         |
| 32     | sha256 of all before                                                                       |
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mobilevlm.atomic_file import write_whole
from mobilevlm.engines.json_file import open_regular
from mobilevlm.errors import UserError

from .pieces import Piece

MAGIC, VERSION = b"MLMPREFX", 1
FRONT = struct.Struct("<8sII")
CHECKSUM_BYTES = hashlib.sha256().digest_size
LONGEST_HEADER = 2**20  # bytes; a token takes some seven
AGAIN = "Save it again with this bundle"


@dataclass(frozen=True)
class PrefixHeader:
    """Header of a file.

    Attributes:
        bundle: seal of the bundle's manifest.
        dtype: numpy's name of the rows' dtype.
        rows: their shape, (2 * layers, G, tokens, W).
        tokens: token ids, and an image's sha256 where an image is.
    """

    bundle: str
    dtype: str
    rows: list[int]
    tokens: list[int | str]


def write_prefix(path: Path, header: PrefixHeader, rows: Sequence[np.ndarray]) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: of the file; one that is there is replaced.
        header: of the file.
        rows: of each piece, as `Runner.read_cache` returned them.

    Raises:
        OSError: the folder cannot be written.
    """
    text = json.dumps(vars(header)).encode()
    content = bytearray(FRONT.pack(MAGIC, VERSION, len(text)) + text)
    for one in rows:
        content += np.ascontiguousarray(one).data.cast("B")
    content += hashlib.sha256(content).digest()
    write_whole(path, memoryview(content))


class PrefixFile:
    """A file that is opened for reading; its header is checked before anything is read or allocated for the rows.

    Args:
        path: of the file.
        expected: header of a file of this bundle; its tokens and their number are not compared.

    Attributes:
        header: the file's.

    Raises:
        UserError: it is missing or damaged, of another version, bundle or dtype.
    """

    def __init__(self, path: Path, expected: PrefixHeader):
        self._path = path
        try:
            with open_regular(path) as file:
                self._front, self.header = self._read_header(file)
                size = path.stat().st_size
        except OSError as error:
            raise UserError(f"the prefix {path} cannot be read: {error.strerror or error}") from None
        header = self.header
        if header.bundle != expected.bundle:
            raise UserError(f"the prefix {path} belongs to another bundle, or to another build of it. {AGAIN}")
        if header.dtype != expected.dtype:
            raise UserError(f"the prefix {path} holds {header.dtype}, the kv cache here is {expected.dtype}. {AGAIN}")
        if [*header.rows[:2], *header.rows[3:]] != [*expected.rows[:2], *expected.rows[3:]]:
            raise self._damaged("its rows have another shape")
        if size != len(self._front) + self.size + CHECKSUM_BYTES:
            raise self._damaged(f"it has {size} bytes, not {len(self._front) + self.size + CHECKSUM_BYTES}")

    @property
    def size(self) -> int:
        """Bytes of the rows."""
        return prod(self.header.rows) * np.dtype(self.header.dtype).itemsize

    def keys(self, image_keys: dict[str, list[Hashable]]) -> list[Hashable]:
        """Returns the keys of its tokens; see `kv_cache.CachedPrefix`.

        Args:
            image_keys: keys of each image by its sha256.
        """
        return [key for token in self.header.tokens for key in image_keys.get(str(token), [token])]

    def read(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """Reads the rows and compares the checksum.

        Args:
            pieces: of the file's tokens.

        Returns:
            Rows of each piece.

        Raises:
            UserError: it is damaged.
        """
        slices, blocks, tokens, width = self.header.rows
        if not pieces or pieces[-1].stop != tokens:
            raise self._damaged("its tokens are not as many as its rows")
        checksum, found = hashlib.sha256(self._front), []
        with self._path.open("rb") as file:
            file.seek(len(self._front))
            for piece in pieces:
                rows = np.empty((slices, blocks, piece.stop - piece.start, width), self.header.dtype)
                file.readinto(rows.data.cast("B"))
                checksum.update(rows.data)
                found.append(rows)
            if file.read() != checksum.digest():
                raise self._damaged("its checksum is another")
        return found

    def _read_header(self, file: BinaryIO) -> tuple[bytes, PrefixHeader]:
        front = file.read(FRONT.size)
        if len(front) < FRONT.size or not front.startswith(MAGIC):
            raise UserError(f"{self._path} is no saved prefix")
        _, version, length = FRONT.unpack(front)
        if version != VERSION:
            raise UserError(f"the prefix {self._path} has version {version}, this program reads {VERSION}. {AGAIN}")
        text = file.read(length) if length <= LONGEST_HEADER else b""
        try:
            return front + text, _checked(PrefixHeader(**json.loads(text)))
        except (ValueError, TypeError, RecursionError):
            raise self._damaged("its header cannot be read") from None

    def _damaged(self, problem: str) -> UserError:
        return UserError(f"the prefix {self._path} is damaged: {problem}. Save it again")


def _checked(header: PrefixHeader) -> PrefixHeader:
    """Returns a header whose fields have the right types.

    Raises:
        ValueError: they do not.
    """
    rows, tokens = header.rows, header.tokens
    sound = isinstance(header.bundle, str) and isinstance(header.dtype, str) and isinstance(rows, list)
    sound = sound and isinstance(tokens, list) and len(rows) == 4
    sound = sound and all(type(size) is int and 0 < size < 2**31 for size in rows)
    sound = sound and all(type(token) is int or isinstance(token, str) for token in tokens)
    if not sound:
        raise ValueError("a field has another type")
    return header
