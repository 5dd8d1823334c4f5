"""Byte-level BPE tokenizer, by the `tokenizers` package: gives the ids of transformers' fast tokenizers.

Control tokens and text are kept apart as in `tokenizer.py`: text stays text, whatever it spells.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .byte_level_files import FAST, read_byte_level_files
from .fast_tokenizer import TokenizerError
from .tokenizer import Segment, Tag, Token, Tokenizer

if TYPE_CHECKING:
    import tokenizers

ERRORS = "one U+FFFD per byte"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """One U+FFFD for each byte that is not part of a character, as SentencePiece decodes."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(ERRORS, _replaced)


def _byte_of() -> dict[str, int]:
    """Byte that each character of a piece stands for: itself where it is printable, else the next one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


class ByteLevelTokenizer(Tokenizer):
    """A checkpoint's tokenizer, where that is a byte-level `tokenizer.json`; attributes are those of `Tokenizer`."""

    def __init__(self, directory: Path):
        """Read `tokenizer.json` and its companions.

        Raises:
            TokenizerError: a file is broken, or the `tokenizers` package is not installed.
            ConfigError: a file cannot be read.
        """
        files = read_byte_level_files(directory)
        self._bytes = _library(files.text, directory / FAST)
        self._vocabulary, self._front = files.vocabulary, list(files.front)
        self._pieces = {index: piece for piece, index in files.vocabulary.items()}
        self._byte_of = _byte_of()
        self.num_pieces, self.legacy = max(self._pieces) + 1, False
        self._added = {token.name: token.index for token in files.added}
        self._strips = {token.name: token.strips for token in files.added}
        self.special_ids = frozenset(token.index for token in files.added if token.special)
        self._control = re.compile("|".join(map(re.escape, sorted(self._added, key=len, reverse=True))))
        self._names = {index: name for name, index in self._added.items()}
        ids = {role: self.token_to_id(name) for role, name in files.roles.items()}
        self.bos_id, self.eos_id = ids.get("bos_token"), ids.get("eos_token")
        self.unk_id, self.pad_id = ids.get("unk_token"), ids.get("pad_token")

    def __len__(self) -> int:
        """Number of rows that an embedding needs."""
        return max(self.num_pieces, max(self._added.values()) + 1)

    def add_tokens(self, names: Sequence[str]) -> None:
        """Make every name a control token; those the vocabulary lacks get the next free ids, in this order."""
        super().add_tokens(names)
        self._names = {index: name for name, index in self._added.items()}

    def token_to_id(self, name: str) -> int | None:
        """Id of a piece or an added token, None for a name that is neither."""
        return self._added.get(name, self._vocabulary.get(name))

    def token_bytes(self, index: int) -> bytes:
        """Bytes that a token adds to a text; none for control tokens."""
        piece = self._pieces.get(index)
        if piece is None or index in self._names:
            return b""
        values = [self._byte_of.get(character) for character in piece]
        known = [value for value in values if value is not None]
        return bytes(known) if len(known) == len(values) else piece.encode()

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids. Ids outside the vocabulary, such as an image's, render as nothing.

        Args:
            ids: any token ids; each byte that is no UTF-8 becomes U+FFFD.
            skip_special_tokens: leave out `special_ids`.
        """
        parts = bytearray()
        for index in map(int, ids):
            if index in self._names and not (skip_special_tokens and index in self.special_ids):
                parts += self._names[index].encode()
            parts += self.token_bytes(index)
        return parts.decode("utf-8", ERRORS)

    def _encode_chunk(self, chunk: list[Segment]) -> list[int]:
        """Token ids of what stands between two images, or of all where images are tokens of the vocabulary."""
        spelt = [s.name if isinstance(s, Tag) and s.name not in self._strips else s for s in chunk]
        self._check_tokens(spelt)
        ids = list(self._front)
        for segment in self._strip_around_tokens(spelt):
            ids += [self._control_id(segment.name)] if isinstance(segment, Token) else self._encode_text(segment)
        return ids

    def _encode_text(self, text: str) -> list[int]:
        return list(self._bytes.encode(text, add_special_tokens=False).ids)


def _library(text: str, path: Path) -> tokenizers.Tokenizer:
    """The library's tokenizer; it is imported where a model needs it and not before."""
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(
            f"{path} is a byte-level tokenizer, which needs the tokenizers package ({error}): "
            "pip install 'mobilevlm[tokenizers]'"
        ) from None
    try:
        return tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises nothing more special
        raise TokenizerError(f"{path} cannot be read ({error}): copy or download it again") from None
