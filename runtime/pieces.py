"""Pieces of a prompt: where it is cut, so that a beginning which two prompts share is computed in the same way in both.

A row of the kv cache depends a little on the rows that are run in the same call: kernels differ by their number. A
prompt is therefore cut at places that its tokens up to there decide alone, and each piece is a call of its own, whether
what precedes it was run just now or was kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

# Tokens of text before an image that are a piece of their own, for a long system prompt; fewer go with the image.
TEXT_BEFORE_IMAGE = 64
# Fewest tokens of a piece that an answer's end closes: a call for few tokens takes longer than they are worth.
LEAST_TURN = 32
# Most tokens of text: two whole calls on TensorRT and on an NPU.
MOST_TEXT = 254


@dataclass(frozen=True)
class Piece:
    """Tokens of a prompt that are run in one call.

    Attributes:
        name: sha256 of the keys of all tokens from the prompt's first one to this piece's last.
        start: index of its first token.
        stop: index behind its last token.
    """

    name: str
    start: int
    stop: int


def cut(input_ids: Sequence[int], keys: Sequence[Hashable], image_tokens: int, eos_id: int | None) -> tuple[Piece, ...]:
    """Returns the whole pieces of a prompt, in order; tokens that follow the last of them are in none.

    Args:
        input_ids: token ids, `IMAGE_TOKEN_INDEX` where an image is.
        keys: of the tokens, see `kv_cache.CachedPrefix`.
        image_tokens: tokens of an image.
        eos_id: token that ends an answer, None where the tokenizer has none.
    """
    found, name, start = [], "", 0
    for stop in _ends(input_ids, image_tokens, eos_id):
        text = " ".join(":".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in keys[start:stop])
        name = hashlib.sha256(f"{name} {text}".encode()).hexdigest()
        found.append(Piece(name, start, stop))
        start = stop
    return tuple(found)


def _ends(input_ids: Sequence[int], image_tokens: int, eos_id: int | None) -> Iterator[int]:
    """Yields the places behind images, behind answers, and in long texts; each depends on the tokens before it only."""
    start = at = 0
    for token in input_ids:
        if token == IMAGE_TOKEN_INDEX:
            if at - start >= TEXT_BEFORE_IMAGE:
                yield at
            start = at = at + image_tokens
            yield at
        else:
            at += 1
            if at - start == MOST_TEXT or (token == eos_id and at - start >= LEAST_TURN):
                start = at
                yield at
