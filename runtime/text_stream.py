"""Text as it is generated, token by token, without ever showing half a character.

A character may be spread over several tokens (byte fallback), a stop string too, and whether a space is the last
one is known only later. What is not certain yet is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_REPLACEMENT = "\ufffd"  # what an undecodable byte becomes
_UNFINISHED_BYTES = 3  # a UTF-8 character has at most four bytes: no more than three can wait for the rest


class TextStream:
    """Turns the tokens of one answer into pieces of text that are final.

    The pieces of all `push` calls and of `flush`, joined, are `decode(all ids).strip()` up to the first stop string,
    stripped again. The first stop string is the one that is complete first; of several that end together, the
    longest. White space at the very beginning is not part of the text and cannot stop it.

    Attributes:
        stopped: a stop string was found; nothing follows, further tokens are ignored.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop_strings: Sequence[str] = ()) -> None:
        """Begin an answer.

        Args:
            decode: ids to text, as SentencePiece does it: from left to right, one U+FFFD for each byte that is not
                part of a character, special tokens left out. It gets a few recent ids at a time, never all.
            stop_strings: texts that end the answer and are not part of it.

        Raises:
            ValueError: `stop_strings` is one string, or holds an empty one.
        """
        if isinstance(stop_strings, str) or not all(stop_strings):
            raise ValueError(
                f"stop_strings is {stop_strings!r}; pass a sequence of non-empty strings, such as ['###']."
            )
        self.stopped = False
        self._stop_strings = tuple(stop_strings)
        self._detokeniser = _Detokeniser(decode)
        self._started = False
        self._maybe_stop = ""  # the end of the text, where a stop string may have begun
        self._spaces: list[str] = []  # white space before that, which only text to come makes part of the answer

    def push(self, token_id: int) -> str:
        """Take the next token; return the text that is certain now, which may be empty."""
        return "" if self.stopped else self._filtered(self._detokeniser.push(token_id), is_last=False)

    def flush(self) -> str:
        """Return the rest of the text at the end of the answer. No `push` may follow."""
        return "" if self.stopped else self._filtered(self._detokeniser.flush(), is_last=True)

    def _filtered(self, text: str, is_last: bool) -> str:
        """Return what of the text held back and the new `text` belongs to the answer for certain."""
        text = self._maybe_stop + (text if self._started else text.lstrip())
        self._started = self._started or bool(text)
        end = self._find_stop(text)
        if end is not None:
            self.stopped = True
        else:
            end = len(text) if is_last else len(text) - self._stop_begun(text)
        self._maybe_stop = text[end:]
        return self._without_last_spaces(text[:end])

    def _find_stop(self, text: str) -> int | None:
        """Return where the first stop string in `text` begins."""
        found = ((text.find(stop), len(stop)) for stop in self._stop_strings)
        ends = [(start + length, start) for start, length in found if start >= 0]
        return min(ends)[1] if ends else None

    def _stop_begun(self, text: str) -> int:
        """Return how many characters at the end of `text` may be the beginning of a stop string."""
        begun = (n for stop in self._stop_strings for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(begun, default=0)

    def _without_last_spaces(self, text: str) -> str:
        """Return `text` after the white space held back; hold back its own trailing white space."""
        body = text.rstrip()
        if not body:
            self._spaces.append(text)
            return ""
        piece = "".join(self._spaces) + body
        self._spaces = [text[len(body) :]]
        return piece


class _Detokeniser:
    """Turns tokens into characters that are final, decoding only a short window of recent tokens.

    SentencePiece drops the space of the first word it decodes. So the window begins with tokens whose text is out
    already and not empty: what follows them is then decoded as in the middle of the whole text. They may begin inside
    a character, for the stray bytes do not touch what follows; they must end where a character ends.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._text = ""  # decode(self._window)
        self._invisible: set[int] = set()  # the last tokens of the window, those that added no text
        self._given = 0  # characters of it that are out
        self._ends: list[tuple[int, int]] = []  # (tokens, characters) of the window where a character may end

    def push(self, token_id: int) -> str:
        """Take the next token; return the characters that are certain now."""
        text = self._decode([*self._window, token_id])
        if text != self._text:
            self._invisible.clear()
        elif token_id in self._invisible:
            return ""  # an invisible token twice in a row is as good as once: the window stays short
        else:
            self._invisible.add(token_id)
        self._window.append(token_id)
        self._text = text
        self._ends.append((len(self._window), len(text)))
        undecoded = len(text) - len(text.rstrip(_REPLACEMENT))
        piece = self._take(len(text) - min(undecoded, _UNFINISHED_BYTES))
        self._shorten_window()
        return piece

    def flush(self) -> str:
        """Return the rest."""
        return self._take(len(self._text))

    def _take(self, end: int) -> str:
        piece = self._text[self._given : end]
        self._given = max(self._given, end)
        return piece

    def _shorten_window(self) -> None:
        """Begin the window as late as possible before the last end of a character that is out."""
        # A byte that completes a character merges several U+FFFD into one: places between them were no ends. They are
        # never the last that is out, for the text became shorter since.
        is_out = [end for end in self._ends if end[1] <= self._given]
        if not is_out:
            return
        tokens, characters = is_out[-1]
        start, context = tokens, ""
        while not context and start > 0:
            start -= 1
            context = self._decode(self._window[start:tokens])
        shift = characters - len(context)
        self._window = self._window[start:]
        self._text = context + self._text[characters:]
        self._given -= shift
        self._ends = [(n - start, length - shift) for n, length in self._ends if n >= tokens]
