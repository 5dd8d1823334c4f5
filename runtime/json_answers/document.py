"""A JSON document while it is generated, byte by byte: what is open, and what a schema allows but no answer needs.

A small model repeats itself: digits without end, brackets within brackets, the same key again, a string or an array
that takes all tokens. A grammar allows that. What is noted here sets bounds where the schema leaves them open.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

# Characters of a number, which holds an int64; digits of one with a point, which float64 keeps apart; and of exponents:
# beyond 1e308 there are no float64.
_LONGEST_NUMBER, _MOST_DIGITS, _LONGEST_EXPONENT = 20, 15, 2
_DEEPEST = 100  # parsers give up at about a thousand
_NUMBER = frozenset(b"+-.0123456789eE")
_OPEN, _CLOSE = frozenset(b"[{"), frozenset(b"]}")


@dataclass(frozen=True)
class Container:
    """An object or array that is open.

    Attributes:
        is_object: whether it is an object.
        until: token of the answer by which an array has to end.
        keys: of an object, as they are written, those that are complete.
    """

    is_object: bool
    until: int
    keys: frozenset[bytes] = frozenset()


@dataclass
class Document:
    """What is open behind the bytes so far.

    Attributes:
        containers: open objects and arrays, the outermost first.
        string: bytes of the open string without its first quote where it is a key, none of another; None outside
            strings.
        string_until: token of the answer by which it has to end.
        escaped: whether a backslash comes just before.
        is_key: whether the open string, or the one that comes next, is a key.
        number: bytes of the number that may go on.
        excess: whether the last bytes went beyond a bound: a number too long, nesting too deep, a key twice.
    """

    containers: list[Container] = field(default_factory=list)
    string: bytes | None = None
    string_until: int = 0
    escaped: bool = False
    is_key: bool = False
    number: bytes = b""
    excess: bool = False

    def after(self, data: bytes, until: int) -> Document:
        """Returns the document with more bytes; those are valid JSON behind these.

        Args:
            data: bytes of a token.
            until: token of the answer by which a string or an array that begins here has to end.
        """
        result = replace(self, containers=list(self.containers), excess=False)
        for byte in data:
            result.push(byte, until)
        return result

    def is_overdue(self, token: int) -> bool:
        """Whether an open string or array has to end now; `token` is the number of the answer's tokens so far."""
        if self.string is not None and self.string_until <= token:
            return True
        return any(one.until <= token and not one.is_object for one in self.containers)

    def repeats_key(self) -> bool:
        """Whether the open string is a key that its object has already, if it ended now."""
        return self.is_key and self.string is not None and self.string in self.containers[-1].keys

    def push(self, byte: int, until: int) -> None:
        """Adds a byte.

        Args:
            byte: valid JSON behind the bytes so far.
            until: as of `after`.
        """
        if self.string is not None:
            self._push_in_string(self.string, byte)
            return
        self._push_number(byte)
        if byte == ord('"'):
            self.string, self.string_until = b"", until
        elif byte in _OPEN:
            self.is_key = byte == ord("{")
            self.containers.append(Container(self.is_key, until))
            self.excess |= len(self.containers) > _DEEPEST
        elif byte in _CLOSE:
            self.containers.pop()
            self.is_key = False
        elif byte == ord(","):
            self.is_key = self.containers[-1].is_object
        elif byte == ord(":"):
            self.is_key = False

    def _push_in_string(self, string: bytes, byte: int) -> None:
        if byte == ord('"') and not self.escaped:
            if self.is_key:
                self.excess |= self.repeats_key()
                top = self.containers[-1]
                self.containers[-1] = replace(top, keys=top.keys | {string})
            self.string = None
            return
        if self.is_key:  # of another string nothing is compared
            self.string = string + bytes([byte])
        self.escaped = byte == ord("\\") and not self.escaped

    def _push_number(self, byte: int) -> None:
        self.number = self.number + bytes([byte]) if byte in _NUMBER else b""
        mantissa, _, exponent = self.number.lower().partition(b"e")
        whole, point, fraction = mantissa.lstrip(b"-").partition(b".")
        self.excess |= len(self.number) > _LONGEST_NUMBER or len(exponent.lstrip(b"+-")) > _LONGEST_EXPONENT
        self.excess |= bool(point) and len(whole + fraction) > _MOST_DIGITS
