"""Questions and rows about wide scenes: the usual kinds in other people's words, ends of rows, and several texts."""

from __future__ import annotations

import random
from dataclasses import replace

from .conversations import lettered, picture_row
from .questions.ends import ends
from .questions.questions import Question, questions
from .questions.several_texts import several_texts
from .wordings.phrases import SHORT_ANSWER, Asked
from .wordings.wordings import ANYTHING, otherwise
from .world import facts
from .world.scenes import Scene
from .world.writings import writings

MOST_TURNS = 7
# How often a kind is asked, where it is not once for each question found: what the usual scenes leave weak, more.
WEIGHTS = {
    **{"number": 10.0, "word": 6.0, "count": 5.0, "shape": 3.0, "color": 2.0, "ends": 6.0, "relation": 2.5},
    **{"compare": 2.0, "place": 0.8, "existence": 0.4, "chart": 1.0, "size": 0.25, "describe": 0.25},
}
OTHER_WORDS = 2 / 3  # of the questions that the usual grammar words, too
YES_OR_NO = (
    *("\nPlease answer yes or no.", " Please answer yes or no.", " Answer yes or no.", " (yes or no)", " Yes or no?"),
    *(" Reply with yes or no.", "\nAnswer with yes or no only.", " Just say yes or no."),
)
IN_A_WORD = (
    *(" Answer with one word.", "\nAnswer in one word.", " (one word)", " One word, please.", " Reply with one word."),
    *("\nAnswer in one word or number.", " Give a one-word answer.", "\nShort answer.", " Answer briefly."),
    *("\nAnswer with a single word or number.", " Just the answer.", " Answer:", "\nAnswer with a single word."),
)
IN_A_PHRASE = (" Answer briefly.", "\nShort answer.", " Just the answer.", "\nGive a short answer.", " Keep it short.")


def wide_questions(scene: Scene, rng: random.Random) -> list[Question]:
    """Questions of every kind the scene can answer, in random order, each with one meaning."""
    found = [_reworded(q, rng) for q in questions(scene, rng) if _clear(q, scene)]
    found = [q for q in found if rng.random() < _share(q, scene)]
    found += ends(scene, rng)
    if len(writings(scene)) > 1 or scene.texts and scene.things or any(thing.text for thing in scene.things):
        found += [q for q in several_texts(scene, rng) if rng.random() < _share(q, scene)]
    rng.shuffle(found)
    return found


def _share(question: Question, scene: Scene) -> float:
    """How many of such questions stay, so that neither no nor one nor none is an answer by far more often."""
    if question.kind == "count":
        return {"0": 0.35, "1": 0.3, "No": 0.5}.get(question.short, 1.0)
    if question.kind == "existence" and question.short == "No":
        return 0.85 if scene.things else 0.4
    return 0.75 if question.short == "No" and question.kind in ("number", "word") else 1.0


def _reworded(question: Question, rng: random.Random) -> Question:
    assert isinstance(question.text, Asked)
    return replace(question, text=otherwise(question.text, rng)) if rng.random() < OTHER_WORDS else question


def _clear(question: Question, scene: Scene) -> bool:
    """Whether a usual question still means one thing where there is more than one text, or a text beside shapes."""
    assert isinstance(question.text, Asked)
    kind, words = question.text.kind, question.text.words
    the = words.get("the", "")
    if kind in ("number", "word", "is_written", "text_color", "on_thing"):
        alone = kind != "on_thing" or len(facts.things_called(scene, the.removeprefix("the "))) == 1
        return len(writings(scene)) == 1 and alone
    if kind == "place" and the in ("the number", "the word"):
        return len(writings(scene)) == 1
    if kind == "what_side":
        return not scene.texts and not _almost(scene, words["side"], words["other"])
    if kind == "what_is" and words["color"] in ("black", "white", "gray"):  # as frames and labels may be
        return not scene.texts and not any(thing.text for thing in scene.things)
    if kind in ("count", "are_many") and words["things"] == "figures" and writings(scene):
        return False
    if not scene.texts:
        return True
    colors = {text.color for text in scene.texts}
    if kind in ("count", "are_many"):
        *color, noun = words["things"].split()
        return noun == "shapes" or noun not in ANYTHING or bool(color) and color[0] not in colors
    named = the.split()
    if kind == "what_is" or len(named) > 1 and named[1] in colors and named[-1] in ("object", "thing", "one", "figure"):
        return words.get("color", named[1] if len(named) > 1 else "") not in colors
    return " object" not in the


def _almost(scene: Scene, side: str, other: str) -> bool:
    """Whether something lies a little to that side of a thing, so that some would count it and some would not."""
    (it,) = [t for t in scene.things if other.removeprefix("the ") in facts.names(scene, t)]
    across = "left" in side or "right" in side
    return any(0.03 < abs(t.x - it.x if across else t.y - it.y) < facts.CLEARLY for t in scene.things)


def wide_row(scene: Scene, image: str, rng: random.Random) -> dict | None:
    """One row for the `v1` template: a few questions about the picture; None where there is nothing to ask."""
    asked = sorted(wide_questions(scene, rng), key=lambda q: rng.random() ** (1 / WEIGHTS[q.kind]), reverse=True)
    turns = unspoilt(asked, rng.randint(1, MOST_TURNS), rng)
    return picture_row(image, turns) if turns else None


def unspoilt(asked: list[Question], most: int, rng: random.Random) -> list[tuple[str, str]]:
    """Turns whose answers no earlier turn tells.

    A question may be about several facts, as the two numbers of a list are. What stands at an end and what is left of
    what follow from each other, so a row asks for one of them only.
    """
    turns: list[tuple[str, str]] = []
    known: set[str] = set()
    ordered = ""
    for question in asked:
        said = " ".join(text for turn in turns for text in turn).lower()
        abouts = set(filter(None, question.about.lower().split("|")))
        order = {"ends": "ends", "relation": "sides", "compare": "sides", "place": "sides"}.get(question.kind, "")
        if len(turns) == most or abouts & known or any(about in said for about in abouts):
            continue
        if order and ordered and order != ordered:
            continue
        turns.append(worded(question, rng))
        known |= abouts
        ordered = ordered or order
    return turns


def worded(question: Question, rng: random.Random) -> tuple[str, str]:
    """A question as a person or a benchmark words it, and the answer that wording asks for."""
    style, text, short = rng.random(), question.text, question.short
    if question.kind == "describe":
        return text, question.long
    if len(question.wrong) > 1 and style < 0.07:
        return lettered(question, rng)
    if short in ("Yes", "No") and style < 0.18:
        return text + rng.choice(YES_OR_NO), short
    if style < 0.45:
        return f"{text}\n{SHORT_ANSWER}", short
    if style < 0.58:
        return text + rng.choice(IN_A_PHRASE if " " in short else IN_A_WORD), short
    return text, question.long
