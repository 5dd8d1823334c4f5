"""Rows of LLaVA-style JSON about usual scenes: captions for alignment, conversations for instruction tuning."""

from __future__ import annotations

import random

from .questions.question import Question
from .questions.usual import questions
from .wordings.phrases import LETTER_ANSWER, SHORT_ANSWER, ask
from .world import facts
from .world.scenes import Scene

MOST_TURNS = 9
# Weight of a kind's questions, 1 where not named: more for what is hard. Where things are is learned late, and all at
# once.
WEIGHTS = {
    **{"count": 6.0, "relation": 8.0, "compare": 4.0, "place": 3.0, "number": 7.0, "word": 4.0, "color": 2.0},
    **{"shape": 1.2, "existence": 0.6, "size": 0.6, "describe": 0.4},
}


def caption_row(scene: Scene, image: str, rng: random.Random) -> dict:
    """Returns a row for the `plain` template: an image and its caption.

    Args:
        scene: what the image shows.
        image: file name of the image.
        rng: source of randomness.
    """
    human = rng.choice([f"<image>\n{ask('describe', rng)}", f"{ask('describe', rng)}\n<image>"])
    return _row(image, [(human, facts.caption(scene, rng, most=8))])


def conversation_row(scene: Scene, image: str, rng: random.Random) -> dict:
    """Returns a row for the `v1` template: a few questions about an image, worded in the usual ways.

    Args:
        scene: what the image shows.
        image: file name of the image.
        rng: source of randomness.
    """
    asked = sorted(questions(scene, rng), key=lambda q: rng.random() ** (1 / WEIGHTS.get(q.kind, 1)), reverse=True)
    return image_row(image, _unspoilt(asked, rng.randint(1, MOST_TURNS), rng))


def image_row(image: str, turns: list[tuple[str, str]]) -> dict:
    """Returns a row about an image; the first turn gets the image token.

    Args:
        image: file name of the image.
        turns: questions and answers, at least one.
    """
    return _row(image, [(f"<image>\n{turns[0][0]}", turns[0][1]), *turns[1:]])


def _unspoilt(asked: list[Question], most: int, rng: random.Random) -> list[tuple[str, str]]:
    """Turns whose answers no earlier turn tells: what the text tells is not looked for in the image."""
    turns: list[tuple[str, str]] = []
    abouts: set[str] = set()
    for question in asked:
        said = " ".join(text for turn in turns for text in turn)
        if len(turns) < most and (not question.about or question.about not in abouts and question.about not in said):
            turns.append(worded(question, rng))
            abouts.add(question.about)
    return turns


def text_row(scene: Scene, rng: random.Random) -> dict:
    """Returns a conversation without an image, whose first turn describes the scene in words.

    Args:
        scene: what is described.
        rng: source of randomness.
    """
    context = facts.caption(scene, rng, most=20)
    asked = [q for q in questions(scene, rng) if _told(q, context)][: rng.randint(1, 5)]
    turns = [worded(question, rng) for question in asked] or [small_talk(rng)]
    if asked:
        turns[0] = (rng.choice([f"{context}\n{turns[0][0]}", f"Context: {context}\n{turns[0][0]}"]), turns[0][1])
    return _row(None, turns)


def _told(question: Question, context: str) -> bool:
    """Whether the description answers a question: what there is always, where it is only if the description says so."""
    if question.kind in ("existence", "color", "shape", "count", "chart", "number", "word"):
        return " at the " not in question.text and " on the " not in question.text
    return (
        question.kind in ("relation", "place") and question.long.rstrip(".").split(", ")[-1].lower() in context.lower()
    )


def worded(question: Question, rng: random.Random) -> tuple[str, str]:
    """Returns a question as a person or a benchmark words it, and the answer that this wording asks for.

    Args:
        question: the question with its answers.
        rng: source of randomness.
    """
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
    """Returns a multiple-choice question in the manner of ScienceQA or of MMBench, and its letter as the answer.

    Args:
        question: a question with wrong answers.
        rng: source of randomness.
    """
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
    """Returns a question without an image, and its answer: sums, greetings, what the model is and can."""
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
