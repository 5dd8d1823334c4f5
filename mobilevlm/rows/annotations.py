"""Readers of annotation files, row by row, whatever their size.

`json.load` needs several times a file's size (see `train/lazy_rows.py`); here it is one row and a buffer. Files are in
UTF-8, or in UTF-16 or UTF-32 with a byte order mark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from ..errors import UserError
from ..text_file import looks_like, open_text
from .forms import as_conversation

AGAIN = "Download it again"
_CHUNK = 1 << 20  # characters read at a time
_LONGEST_ROW = 1 << 25  # characters; beyond it a row that does not parse is broken, not unfinished
# End of a text that stops inside a literal, a number or an escape.
_CUT = re.compile(r"t(ru?)?|f(a(ls?)?)?|nu?l?|Na?|-?(I[nfit]*)?|\.|[eE][+-]?|u[0-9a-fA-F]{0,4}")
_BLANK = re.compile(r"[\s\ufeff]*")  # between values: the mark also where files were joined
_POINTER = "version https://git-lfs"
_LINE_ENDINGS = (".jsonl", ".ndjson")
Row = Any  # as parsed: a broken file may hold anything
Placed = tuple[Row, int, int]  # a row, and the bytes of the file where its JSON begins and ends


class AnnotationError(UserError):
    """Error of a file that cannot be read to its end; the message does not repeat the file's name."""


def read_rows(path: Path, on_read: Callable[[int], None] = lambda count: None) -> Iterator[Row]:
    """Yields the rows of an annotation file, conversations of other forms as `forms.as_conversation` has them.

    Args:
        path: a JSON list, or one JSON object per line where the name ends in .jsonl.
        on_read: called with the number of bytes read since its last call.

    Raises:
        AnnotationError: the file ends early or has another form.
    """
    return (as_conversation(row) for row, _, _ in read_placed(path, on_read))


def read_placed(path: Path, on_read: Callable[[int], None] = lambda count: None) -> Iterator[Placed]:
    """Yields the rows of an annotation file as they are, each with the bytes where it begins and ends.

    Args:
        path: a JSON list, or one JSON object per line where the name ends in .jsonl.
        on_read: called with the number of bytes read since its last call.

    Raises:
        AnnotationError: the file ends early or has another form.
    """
    return _read(path, _lines if path.suffix.lower() in _LINE_ENDINGS else _list, on_read)


def read_through(path: Path) -> None:
    """Parse a JSON file, or one with a value per line, to its end.

    Raises:
        AnnotationError: as `read_rows`.
    """
    if not sum(1 for _ in _read(path, _values, lambda count: None)):
        raise AnnotationError(f"is empty. {AGAIN}")


def _read(path: Path, layout: Callable[[_Window], Iterator[Any]], on_read: Callable[[int], None]) -> Iterator[Any]:
    with open_text(path) as handle:
        done = 0
        try:
            for row in layout(_Window(handle)):
                yield row
                if (now := _position(handle)) != done:
                    on_read(now - done)
                    done = now
        except UnicodeDecodeError as error:
            name = handle.encoding.upper()
            found = f"; it looks like {looks_like(error.object)}. Save it as UTF-8" if name == "UTF-8" else ""
            raise AnnotationError(f"is no {name} text (near byte {done + error.start}){found}. {AGAIN}") from None


def _position(handle: TextIO) -> int:
    """Number of bytes read; 0 of a pipe, which does not know."""
    return handle.buffer.tell() if handle.seekable() else 0


class _Window:
    """Part of a JSON text that is in memory; it grows until the next value is whole."""

    def __init__(self, handle: TextIO):
        self._handle, self._text, self._at = handle, "", 0
        self._byte = _position(handle)  # offset in the file of the character at `_at`
        self._decoder = json.JSONDecoder()
        self._grow(_CHUNK)
        if "\0" in self._text[:4]:
            raise AnnotationError(f"looks like {looks_like(self._text[:64].encode())}: save it as UTF-8")

    def next_mark(self) -> str:
        """Returns the next character that is not white space, without taking it; empty at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._move(blank.end() if blank else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow(_CHUNK):
                return ""

    def begins_with(self, text: str) -> bool:
        """Whether the next characters are these."""
        return self._text.startswith(text, self._at)

    def skip(self) -> None:
        """Takes one character."""
        self._move(self._at + 1)

    def _move(self, to: int) -> None:
        self._byte += len(self._text[self._at : to].encode(self._handle.encoding))
        self._at = to

    def value(self, what: str) -> Placed:
        """Takes the next JSON value; `what` names it in an error."""
        size, start = _CHUNK, self._byte
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                self._move(end)
                return value, start, self._byte
            except json.JSONDecodeError as error:
                near = self._text[max(self._at, error.pos - 20) : error.pos + 20]
                # A string that does not end is reported where it starts, all else where the text stops making sense.
                unfinished = error.msg.startswith("Unterminated") or _CUT.fullmatch(self._text[error.pos :])
                if unfinished and len(self._text) - self._at < _LONGEST_ROW and self._grow(size):
                    size *= 2  # so that a broken row costs one pass, not one for each chunk
                    continue
                if unfinished:
                    raise AnnotationError(f"ends in the middle of {what}. {AGAIN}") from None
                raise AnnotationError(f"is no JSON at {what}: {error.msg} near {near!r}. {AGAIN} or mend it") from None
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand lists in a list
                raise AnnotationError(f"cannot be read at {what}: {error}. {AGAIN} or mend it") from None

    def _grow(self, size: int) -> bool:
        more = self._handle.read(size)
        self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)


def _list(window: _Window) -> Iterator[Placed]:
    """Yields the items of one JSON list."""
    number, start = 0, window.next_mark()
    if start != "[":
        lines = ", or name it .jsonl if it holds an object per line" if start == "{" else ""
        lines = lines or (", by `git lfs pull`: it is a pointer of git-lfs" if window.begins_with(_POINTER) else "")
        raise AnnotationError(
            f"is no JSON list: it {f'starts with {start!r}' if start else 'is empty'}. {AGAIN}{lines}"
        )
    window.skip()
    mark = window.next_mark()
    while mark != "]":
        yield window.value(f"row {number}")
        number += 1
        mark = window.next_mark()
        if mark == "":
            raise AnnotationError(f"ends after row {number - 1} without the closing ']'. {AGAIN}")
        if mark not in ",]":
            raise AnnotationError(
                f"is no JSON after row {number - 1}: {mark!r} instead of ',' or ']'. {AGAIN} or mend it"
            )
        if mark == ",":
            window.skip()
            window.next_mark()
    window.skip()
    if window.next_mark():
        raise AnnotationError(f"goes on after the end of the list ({number} rows). {AGAIN} or mend it")


def _lines(window: _Window) -> Iterator[Placed]:
    """Yields the rows of a .jsonl, also of one that holds a JSON list."""
    return (_list if window.next_mark() == "[" else _values)(window)


def _values(window: _Window) -> Iterator[Placed]:
    """Yields JSON values that follow one another, as in .jsonl."""
    number = 0
    while window.next_mark():
        yield window.value(f"row {number}")
        number += 1
