"""Compares a converted `tokenizer.json` with the library that it was written for, on texts of its own pieces."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

from ..text.byte_level_files import is_byte_level
from ..text.fast_tokenizer import TokenizerError
from ..text.tokenizer import SPACE, Tokenizer
from ..text.tokenizer_files import FAST, MODEL

RANDOM_TEXTS, LONGEST = 200, 12
TEXTS = (
    *("What is in the picture?", "Is there a red car?\nAnswer with yes or no.", "  two  spaces ", "1234567890 3.14"),
    *("na\u00efve caf\u00e9", "\u4f60\u597d\uff0c\u4e16\u754c", "emoji \U0001f600\U0001f468\u200d\U0001f469"),
    *("tab\tand\r\nline", "a\u0301 \ufb01 \u00bd", "x" * 200),
)


def check_converted(directory: Path) -> None:
    """Compare ids, where a directory has a `tokenizer.json` alone.

    Raises:
        TokenizerError: a text gets other ids; the message shows it.
    """
    path = directory / FAST
    if path.is_file() and not (directory / MODEL).is_file() and not is_byte_level(directory):
        _check(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _check(path: Path, changed: int) -> None:
    """Comparison of one state of a file."""
    import tokenizers

    try:
        theirs = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise TokenizerError(f"{path} cannot be read ({error}): copy or download it again") from None
    ours = Tokenizer(path.parent)
    theirs.no_padding()
    theirs.no_truncation()
    pieces = [ours.token_bytes(index).decode(errors="ignore") for index in range(ours.num_pieces)]
    pieces = [piece for piece in pieces if piece]
    drawn = random.Random(0)
    texts = ["".join(drawn.choices(pieces, k=drawn.randint(1, LONGEST))) for _ in range(RANDOM_TEXTS)]
    # Metaspace puts no space before one that is there; SentencePiece does, and the original with it.
    keeps_space = theirs.pre_tokenizer is not None
    for text in (*TEXTS, *texts):
        text = text.lstrip(f" {SPACE}") if keeps_space else text
        wanted, got = theirs.encode(text, add_special_tokens=False).ids, ours.encode([text])
        got = got[1:] if got[:1] == [ours.bos_id] else got
        # A text that spells a control token's name is that token to the library, and text to this project.
        if wanted != got and not ours.special_ids & set(wanted):
            raise TokenizerError(
                f"{path} gives {text!r} the ids {wanted}, as a SentencePiece model it gives {got}: copy "
                "tokenizer.model from the checkpoint that this one was made from"
            )
