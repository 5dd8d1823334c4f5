"""Rows of LLaVA-style JSON about scenes: captions for the alignment stages, conversations for instruction tuning."""

from __future__ import annotations

import random

from .questions.question import Question
from .questions.usual import questions
from .wordings.phrases import LETTER_ANSWER, SHORT_ANSWER, ask
from .world import facts
from .world.scenes import Scene

MOST_TURNS = 9
# How often a kind is asked, where it is not once for each question found: what is hard is asked more. Where things are
# is learned late, and all at once.
WEIGHTS = {
    **{"count": 6.0, "relation": 8.0, "compare": 4.0, "place": 3.0, "number": 7.0, "word": 4.0, "color": 2.0},
    **{"shape": 1.2, "existence": 0.6, "size": 0.6, "describe": 0.4},
}


def caption_row(scene: Scene, image: str, rng: random.Random) -> dict:
    """One row for the `plain` template: the picture and a caption."""
    human = rng.choice([f"<image>\n{ask('describe', rng)}", f"{ask('describe', rng)}\n<image>"])
    return _row(image, [(human, facts.caption(scene, rng, most=8))])


def conversation_row(scene: Scene, image: str, rng: random.Random) -> dict:
    """One row for the `v1` template: a few questions about the picture, each asked in one of the usual ways."""
    asked = sorted(questions(scene, rng), key=lambda q: rng.random() ** (1 / WEIGHTS.get(q.kind, 1)), reverse=True)
    return picture_row(image, _unspoilt(asked, rng.randint(1, MOST_TURNS), rng))


def picture_row(image: str, turns: list[tuple[str, str]]) -> dict:
    """A row about a picture, from at least one turn."""
    return _row(image, [(f"<image>\n{turns[0][0]}", turns[0][1]), *turns[1:]])


def _unspoilt(asked: list[Question], most: int, rng: random.Random) -> list[tuple[str, str]]:
    """Turns whose answers no earlier turn tells: what words tell is not looked for in the picture."""
    turns: list[tuple[str, str]] = []
    abouts: set[str] = set()
    for question in asked:
        said = " ".join(text for turn in turns for text in turn)
        if len(turns) < most and (not question.about or question.about not in abouts and question.about not in said):
            turns.append(worded(question, rng))
            abouts.add(question.about)
    return turns


def text_row(scene: Scene, rng: random.Random) -> dict:
    """A conversation without a picture, whose first turn describes the scene in words."""
    context = facts.caption(scene, rng, most=20)
    asked = [q for q in questions(scene, rng) if _told(q, context)][: rng.randint(1, 5)]
    turns = [worded(question, rng) for question in asked] or [small_talk(rng)]
    if asked:
        turns[0] = (rng.choice([f"{context}\n{turns[0][0]}", f"Context: {context}\n{turns[0][0]}"]), turns[0][1])
    return _row(None, turns)


def _told(question: Question, context: str) -> bool:
    """Whether words alone can answer: what there is always can, where it is only when the caption says so."""
    if question.kind in ("existence", "color", "shape", "count", "chart", "number", "word"):
        return " at the " not in question.text and " on the " not in question.text
    return (
        question.kind in ("relation", "place") and question.long.rstrip(".").split(", ")[-1].lower() in context.lower()
    )


def worded(question: Question, rng: random.Random) -> tuple[str, str]:
    """A question as a person or a benchmark words it, and the answer that wording asks for."""
    style = rng.random()
    if question.kind == "describe":
        return question.text, question.long
    if question.wrong and len(question.wrong) > 1 and style < 0.12:
        return lettered(question, rng)
    if question.short in ("Yes", "No") and style < 0.15:
        return f"{question.text}{rng.choice([' ', chr(10)])}Please answer yes or no.", question.short
    if style < 0.55:
        hint = ""
        if question.kind in ("number", "word") and question.short not in ("Yes", "No") and rng.random() < 0.15:
            hint = f"\nReference OCR token: {question.short}"
        return f"{question.text}{hint}\n{SHORT_ANSWER}", question.short
    return question.text, question.long


def lettered(question: Question, rng: random.Random) -> tuple[str, str]:
    """A multiple-choice question in the manner of ScienceQA or of MMBench; the answer is a letter."""
    options = rng.sample([question.short, *question.wrong], 1 + len(question.wrong))
    letters = "ABCDEFGH"[: len(options)]
    if rng.random() < 0.5:
        choices = "".join(f"\n{letter}. {option}" for letter, option in zip(letters, options, strict=True))
        text = f"{question.text}{choices}\n{LETTER_ANSWER}"
    else:
        choices = " ".join(f"({letter}) {option}" for letter, option in zip(letters, options, strict=True))
        context = rng.choice(["Context: N/A\n", ""])
        text = f"{context}Question: {question.text}\nOptions: {choices}\n{LETTER_ANSWER}"
    return text, letters[options.index(question.short)]


def small_talk(rng: random.Random) -> tuple[str, str]:
    """A question that needs no picture."""
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    return rng.choice(
        [
            (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
            (f"What is {a} + {b}?\n{SHORT_ANSWER}", str(a + b)),
            (f"Which is larger, {a} or {b + 11}?", f"{b + 11} is larger."),
            (rng.choice(["Hello!", "Hi", "Good morning", "Hello, how are you?"]), "Hello! How can I help you?"),
            (rng.choice(["Thank you!", "Thanks"]), "You are welcome."),
            (
                rng.choice(["Who are you?", "What are you?"]),
                "I am a small MobileVLM. I answer questions about pictures of shapes.",
            ),
            (
                rng.choice(["What can you do?", "Help"]),
                "I can describe a picture of shapes, words and numbers and answer questions about it.",
            ),
        ]
    )


def _row(image: str | None, turns: list[tuple[str, str]]) -> dict:
    conversations = [
        {"from": role, "value": str(text)} for turn in turns for role, text in zip(("human", "gpt"), turn, strict=True)
    ]
    return ({"image": image} if image else {}) | {"conversations": conversations}
