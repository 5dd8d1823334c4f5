"""The notation of grammars, from which the wording of a question is drawn at random.

`[a|b|]` chooses between alternatives (they nest), `<name>` is one of `PARTS`, `{name}` a field that the question fills.
"""

from __future__ import annotations

import random
import re

PARTS = {
    "pic": "[picture|image|drawing|photo|figure|canvas|graphic|scene]",
    "thing": "[shape|object|thing|item|form|symbol|element]",
    "in": "[in [the|this] <pic>|on the canvas|here|in there||||]",
    "color": "[color|colour|color|colour|hue|tint]",
    "tell": "[Tell me|Please tell me|State|Say|Let me know|Report|Can you say|I'd like to know|I want you to tell me|Please say|Figure out|Work out|Determine]",  # noqa: E501
    "if": "[if|whether]",
    "wonder": "[I wonder|I am wondering|I'm curious|I'm not sure|Let me know|Please check|Check|Verify|Tell me|Say]",
    "claim": "[My friend says|Someone told me|I believe|I think|It looks like|Somebody claims]",
    "true": "[, true?|, is that right?|, correct?|. True or not?|. Is that so?|: yes or no?|. Am I right?]",
    "read": "[Read|Read out|Read off|Read aloud|Transcribe|Type out|Write down|Copy|Spell out|Give|State|Tell me|OCR]",
    "printed": "[printed|written|shown|displayed|drawn|depicted|visible|there]",
}
_PART = re.compile(r"<(\w+)>")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def grammar(lines: str) -> str:
    """Returns a grammar that chooses one of several lines, with their parts filled in."""
    text = "[" + "|".join(line.strip() for line in lines.strip().splitlines()) + "]"
    while match := _PART.search(text):
        text = text[: match.start()] + PARTS[match[1]] + text[match.end() :]
    return text


def expand(grammar: str, rng: random.Random) -> str:
    """Chooses alternatives, innermost first, and tidies the spaces.

    Args:
        grammar: a text in the notation of this module, without parts.
        rng: source of randomness.
    """
    while (match := _CHOICE.search(grammar)) is not None:
        grammar = grammar[: match.start()] + rng.choice(match.group(1).split("|")) + grammar[match.end() :]
    return re.sub(r"\s+([?.,:])", r"\1", re.sub(r"\s+", " ", grammar)).strip()


def cap(text: str) -> str:
    """Returns a text with its first letter in upper case."""
    return text[0].upper() + text[1:]
