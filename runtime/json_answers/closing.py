"""The way a JSON document is ended in few bytes from where it stands."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .document import Document
from .string_ending import BYTES, allowed_bytes, string_ending

if TYPE_CHECKING:
    from llguidance import LLMatcher

_PATIENCE = 16  # brackets that are opened before the other kind has its turn
# What ends something, then the shortest values. A bracket that opens may have to be filled.
_ORDER = (b"}", b"]", b",", b":", b"0123456789", b"n", b"t", b"f", b'"', b"-", b"[", b"{", b".", b"eE+")
_RANKS = {byte: rank for rank, members in enumerate(_ORDER) for byte in members}
_OPEN = frozenset(b"[{")


def closing(matcher: LLMatcher, document: Document, most: int) -> bytes | None:
    """Returns bytes that complete a document, few where the schema allows few; None where no way was found.

    Args:
        matcher: over bytes, at the document's end; not modified.
        document: what is open there.
        most: how many bytes at most.
    """
    matcher, result = matcher.deep_copy(), bytearray()
    opened: Counter[int] = Counter()
    while not matcher.is_accepting():
        if document.string is None:
            more = _outside(matcher, document, opened)
        else:
            within = string_ending(matcher, document, most - len(result))
            more = None if within is None else within + b'"'
        if more is None or len(result) + len(more) > most:
            return None
        matcher.consume_tokens(list(more))
        document = document.after(more, 0)
        result += more
    return bytes(result)


def _outside(matcher: LLMatcher, document: Document, opened: Counter[int]) -> bytes | None:
    """Returns the next byte outside a string.

    Args:
        matcher: over bytes.
        document: what is open.
        opened: how often each bracket was opened so far; counts on.
    """

    def rank(byte: int) -> tuple[int, ...]:
        # Brackets take turns: an array that has to hold another one would open them for ever. So do digits: zeros
        # alone never come to be more than an exclusive minimum.
        return opened[byte] // _PATIENCE, _RANKS.get(byte, BYTES), document.number.count(byte), byte

    byte = min(allowed_bytes(matcher), key=rank, default=None)
    if byte is None:
        return None
    opened[byte] += byte in _OPEN
    return bytes([byte])
