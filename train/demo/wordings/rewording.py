"""Second wordings of the questions that `phrases` words, in the notation of `grammar`, a line for each wording."""

from __future__ import annotations

import random
import re

from .attributes import ATTRIBUTES
from .checks import CHECKS
from .grammar import cap, expand, grammar
from .phrases import Asked
from .reading import READING
from .relations import RELATIONS

SYNONYMS = (  # used in questions only: an answer has one word for a thing
    ("gray", "grey", 0.3),
    ("oval", "ellipse", 0.25),
    ("ovals", "ellipses", 0.25),
    ("diamond", "rhombus", 0.2),
    ("diamonds", "rhombuses", 0.2),
    ("crosses", "plus signs", 0.15),
    ("cross", "plus sign", 0.15),
    ("hexagon", "six-sided shape", 0.04),
    ("purple", "violet", 0.1),
    ("big", "large", 0.15),
)
GREETINGS = ("Hello, ", "Hi. ", "Hey, ", "Question: ", "Q: ", "Quick one: ", "Please: ", "OK, ", "So, ", "And now: ")
SIDES = (
    *(
        (f"to the {side} of", f"{side} of", f"on the {side} of", f"on the {side} side of", f"further {side} than")
        + (f"on the {side}-hand side of", f"to the {side} of", f"{side} of", f"more to the {side} than")
        for side in ("left", "right")
    ),
    ("above", "above", "over", "higher than", "higher up than", "further up than"),
    ("below", "below", "under", "beneath", "underneath", "lower than", "further down than"),
)
ANYTHING = ("shapes", "things", "objects", "figures")


GRAMMARS: dict[str, str] = {kind: grammar(lines) for kind, lines in (ATTRIBUTES | CHECKS | RELATIONS | READING).items()}


def otherwise(asked: Asked, rng: random.Random) -> str:
    """Returns a question in a second wording where its kind has any, else as it is.

    Args:
        asked: the question in its first wording.
        rng: source of randomness.
    """
    kind, words = asked.kind, dict(asked.words)
    if kind == "count" and rng.random() < 0.15 and words["things"] not in ANYTHING:
        kind = "count_of"
    if kind not in GRAMMARS:
        return asked
    if "thing" in words:
        words["thing_alone"] = words["thing"].split(" ", 1)[1]
    if "the" in words:
        words |= {"bare": words["the"].removeprefix("the "), "the_cap": cap(words["the"])}
    if kind in ("is_side", "what_side"):
        words["side"] = rng.choice(next(same for same in SIDES if words["side"] in same))
    if "one" in words:
        words["one_cap"] = cap(words["one"])
    return said(GRAMMARS[kind], rng, **words)


def said(grammar: str, rng: random.Random, **words: str) -> str:
    """Returns a question from a grammar, changed as people do: synonyms, case, punctuation, a greeting.

    Args:
        grammar: see `grammar.grammar`.
        rng: source of randomness.
        **words: values of the grammar's fields.
    """
    text = re.sub(r"\s+", " ", expand(grammar, rng).format(**words))
    text = re.sub(r" ([?.,:])", r"\1", text).replace(".?", "?").replace("??", "?")
    for name, other, chance in SYNONYMS:
        if rng.random() < chance:
            text = re.sub(rf"\b{name}\b", other, text)
            text = re.sub(r"\ba (?=ellipse)", "an ", text).replace("an rhombus", "a rhombus")
    text = cap(re.sub(r"\ban (?=six|plus|violet)", "a ", text))
    habit = rng.random()
    if habit < 0.14:
        text = text.lower()
    elif habit < 0.16:
        text = text.upper() if not re.search(r"[A-Z]", text[1:]) else text
    if rng.random() < 0.1:
        text = text.rstrip("?.")
    if rng.random() < 0.06:
        text = rng.choice(GREETINGS) + text[0].lower() + text[1:]
    elif rng.random() < 0.1 and re.match("(what|which|how) .*[^,]\\?$", text, re.IGNORECASE):
        text = f"{text[:-1]}, please?"
    return text
