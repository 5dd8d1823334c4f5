"""Questions from a pipe or a file, one a line, as they come: text or a sentence that names the line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from mobilevlm.errors import UserError
from mobilevlm.text_file import decode_text

LONGEST = 1 << 20  # bytes of a line: more than any context holds
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def question_lines(stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yields lines with their numbers, from 1, without line ends; UTF-8, or UTF-16 with a byte order mark.

    Raises:
        UserError: a line is in another encoding, no text, or too long; the message has its number.
    """
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        if number == 1 and line.startswith(_UTF_16_MARKS):  # its line ends are others: it is read whole
            text = decode_text(line + stream.read(LONGEST), "stdin")
            yield from enumerate(text.splitlines(), 1)
            return
        if len(line) > LONGEST:
            raise UserError(f"line {number} of stdin is longer than {LONGEST} bytes: questions stand on a line each")
        if b"\0" in line:
            raise UserError(f"line {number} of stdin holds a NUL byte: it is no text, or UTF-16 without its mark")
        yield number, decode_text(line, f"line {number} of stdin").rstrip("\r\n")
