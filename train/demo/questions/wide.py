"""Questions about wide scenes: the usual kinds in second wordings, ends of rows, and several texts."""

from __future__ import annotations

import random
from dataclasses import replace

from ..wordings.phrases import Asked
from ..wordings.rewording import ANYTHING, otherwise
from ..world import facts
from ..world.scenes import Scene
from ..world.writings import writings
from .ends import ends
from .question import Question
from .several_texts import several_texts
from .usual import questions

OTHER_WORDS = 2 / 3  # share of the usual questions that get a second wording


def wide_questions(scene: Scene, rng: random.Random) -> list[Question]:
    """Returns questions of every kind that the scene can answer, in random order, each with one meaning.

    Args:
        scene: what the image shows.
        rng: source of randomness.
    """
    found = [_reworded(q, rng) for q in questions(scene, rng) if _clear(q, scene)]
    found = [q for q in found if rng.random() < _share(q, scene)]
    found += ends(scene, rng)
    if len(writings(scene)) > 1 or scene.texts and scene.things or any(thing.text for thing in scene.things):
        found += [q for q in several_texts(scene, rng) if rng.random() < _share(q, scene)]
    rng.shuffle(found)
    return found


def _share(question: Question, scene: Scene) -> float:
    """Share of such questions to keep, so that no, one and none are not by far the most frequent answers."""
    if question.kind == "count":
        return {"0": 0.35, "1": 0.3, "No": 0.5}.get(question.short, 1.0)
    if question.kind == "existence" and question.short == "No":
        return 0.85 if scene.things else 0.4
    return 0.75 if question.short == "No" and question.kind in ("number", "word") else 1.0


def _reworded(question: Question, rng: random.Random) -> Question:
    assert isinstance(question.text, Asked)
    return replace(question, text=otherwise(question.text, rng)) if rng.random() < OTHER_WORDS else question


def _clear(question: Question, scene: Scene) -> bool:
    """Whether a usual question still has one meaning where there are several texts, or a text beside shapes."""
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
