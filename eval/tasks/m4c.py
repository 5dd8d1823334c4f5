"""Soft accuracy of TextVQA: answers are normalised as on the EvalAI server, then compared with ten people's.

Slips of the official program are kept, since published scores were made with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .contractions import CONTRACTIONS

REFERENCES = 10

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = {"a", "an", "the"}
# Without ',' and '?', which are gone by then; and so never applies another official rule, for texts with "1,000".
_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
# The official `(?!<=\d)` was to spare the point in "3." but looks ahead, where it always holds.
_POINT = re.compile(r"\.(?!\d)")
_MOST_POINTS = 32  # re.UNICODE, given where `sub` takes the number of replacements


def normalise(text: str) -> str:
    """Normalise an answer for comparison: lower case, no punctuation or articles, digits for numbers.

    Of the contractions, those with a capital I are never mended: the text is in lower case by then.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ")
    plain = text
    for mark in _PUNCTUATION:
        # One blank beside the mark, anywhere, glues the words around all others of its kind: "a-b c -d" is "ab c d".
        at_a_blank = f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if at_a_blank else " ")
    words = _POINT.sub("", plain, count=_MOST_POINTS).split()
    words = [_DIGITS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(prediction: str, references: Sequence[str]) -> float:
    """Soft accuracy of an answer, 0 to 1: agreement with ten people's answers.

    Officially the mean over the ten of min(1, matches among the other nine / 3). With n matches, n of the ten see n - 1
    of them and the others n: together n(n - 1)/3 + (10 - n)n/3 = 3n while n is at most 3, and 10 above.

    Args:
        prediction: the model's answer, as it is.
        references: the ten people's, as they are.

    Raises:
        ValueError: there are not ten.
    """
    if len(references) != REFERENCES:
        raise ValueError(f"{len(references)} reference answers, {REFERENCES} are needed")
    said = normalise(prediction)
    matches = sum(normalise(reference) == said for reference in references)
    return min(3 * matches, REFERENCES) / REFERENCES
