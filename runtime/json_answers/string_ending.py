"""The way a JSON string is ended in few bytes, also one with a pattern or a least length."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .document import Document

if TYPE_CHECKING:
    from llguidance import LLMatcher

BYTES = 256  # the vocabulary of bytes; its EOS is the next id
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
# Kinds of bytes, the first of a kind before the next. A date has a capital T and Z, and no calendar has a year 0.
_KINDS = (b" ", b"abcdefghijklmnopqrsuvwxy", b"1234567890", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"tz")
_OTHER, _BEYOND_ASCII, _ESCAPE = len(_KINDS), len(_KINDS) + 1, len(_KINDS) + 2
_PATIENCE = 16  # bytes of one kind before another's turn: a pattern may wait for it
_SHORT, _DEEPEST, _WIDEST = 8, 24, 16  # bytes that need no search; depth and width of a search


def allowed_bytes(matcher: LLMatcher) -> tuple[int, ...]:
    """Returns the bytes that may come next, in ascending order; none where the matcher failed."""
    return () if matcher.is_error() else _bytes_of(matcher.compute_bitmask())


def string_ending(matcher: LLMatcher, document: Document, most: int) -> bytes | None:
    """Returns bytes behind which the open string can be closed by a quote; None where no way was found.

    Args:
        matcher: over bytes, inside the string; not modified.
        document: what is open there.
        most: how many bytes at most.
    """
    ending = _straight(matcher, document, min(_SHORT, most))
    if ending is None:
        ending = _search(matcher, document, min(_DEEPEST, most))
    return _straight(matcher, document, most) if ending is None else ending


def _straight(matcher: LLMatcher, document: Document, most: int) -> bytes | None:
    """Takes one byte after the other without looking ahead; kinds of bytes take turns when it lasts."""
    matcher, document, result = matcher.deep_copy(), document.after(b"", 0), bytearray()
    used: Counter[int] = Counter()
    while len(result) <= most:
        allowed = allowed_bytes(matcher)
        if _QUOTE in allowed and not document.escaped and not document.repeats_key():
            return bytes(result)
        choice = allowed if document.escaped else _representatives(allowed)
        byte = min(choice, key=lambda one: _turn(one, used), default=None)
        if byte is None:
            break
        used.update((byte, BYTES + _KIND_OF[byte]))
        matcher.consume_token(byte)
        document = document.after(bytes([byte]), 0)
        result.append(byte)
    return bytes(result) if _QUOTE in allowed_bytes(matcher) and not document.escaped else None


def _turn(byte: int, used: Counter[int]) -> tuple[int, ...]:
    """Returns what is smallest for the byte that has its turn; those of the last kinds have none before all others."""
    group = _KIND_OF[byte]
    rounds = used[BYTES + group] // _PATIENCE + (BYTES if group > _OTHER else 0)
    return rounds, group, used[byte] // _PATIENCE, _PLACE_OF[byte]


def _search(matcher: LLMatcher, document: Document, deepest: int) -> bytes | None:
    """Looks for the shortest way, one byte deeper at a time.

    Of ways with the same length and the same bytes to come next, one is followed.
    """
    begun = document.string or b""
    taken = document.containers[-1].keys if document.is_key else frozenset()
    layer = {matcher.compute_bitmask(): (matcher, b"")}
    for _ in range(deepest + 1):
        deeper: dict[bytes, tuple[LLMatcher, bytes]] = {}
        for mask, (here, text) in layer.items():
            allowed = _bytes_of(mask)
            if _QUOTE in allowed and begun + text not in taken and not (document.escaped and not text):
                return text
            for byte in _representatives(allowed):
                there, more = here.deep_copy(), bytes([byte])
                there.consume_token(byte)
                if byte == _BACKSLASH:
                    if deeper or len(allowed) > 1:  # what is escaped is longer than what is not
                        continue
                    more += bytes(allowed_bytes(there)[:1])
                    there.consume_tokens(list(more[1:]))
                deeper.setdefault(there.compute_bitmask(), (there, text + more))
            if len(deeper) > _WIDEST:
                break
        layer = deeper
    return None


@lru_cache(1024)
def _representatives(allowed: tuple[int, ...]) -> list[int]:
    """Returns some of the bytes that may come next: the first and the last of letters and digits, all others once."""
    members: dict[int, list[int]] = {}
    for byte in sorted(allowed, key=_PLACE_OF.__getitem__):
        if byte != _QUOTE:
            members.setdefault(_KIND_OF[byte], []).append(byte)
    chosen: list[int] = []
    for number, alike in sorted(members.items()):
        chosen += alike if len(alike) <= _SHORT or number == _OTHER else [alike[0], alike[-1]]
    return chosen


def _kind(byte: int) -> int:
    if byte >= 128:
        return _BEYOND_ASCII
    return _ESCAPE if byte == _BACKSLASH else next((n for n, members in enumerate(_KINDS) if byte in members), _OTHER)


# Number of a byte's kind; the kinds that are tried first before the others.
_KIND_OF = [_kind(byte) for byte in range(BYTES)]
_PLACE_OF = [max(b"".join(_KINDS).find(byte), 0) for byte in range(BYTES)]


@lru_cache(1024)  # one inside strings of every kind there is
def _bytes_of(mask: bytes) -> tuple[int, ...]:
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=BYTES, bitorder="little")
    return tuple(np.flatnonzero(bits).tolist())
