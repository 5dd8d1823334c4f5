"""OpenAI's messages as a conversation of the model: turns in alternation, and images before the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mobilevlm.text.tokenizer import IMAGE, Segment

from .answer_request import Turn
from .openai_types import ImagePart, Message

SYSTEM = ("system", "developer")


@dataclass
class Question:
    """A conversation that ends in a question.

    Attributes:
        system: text of the system messages.
        turns: questions and answers in alternation, a question first and last.
        images: URLs of the images in the turns, each with the field that it came from.
    """

    system: str = ""
    turns: list[Turn] = field(default_factory=list)
    images: list[tuple[str, str]] = field(default_factory=list)


def question_of(messages: Sequence[Message]) -> Question:
    """Returns the conversation of a request.

    Consecutive messages of a side are one turn. Images that stand together come before the text of their turn, as in
    training; between texts they keep their places.

    Args:
        messages: of a request, at least one.
    """
    question = Question()
    turns: list[tuple[bool, list[Segment]]] = []
    for number, message in enumerate(messages):
        content, images = _content(message, f"messages.{number}.content")
        if message.role in SYSTEM:
            question.system = "\n".join(filter(None, [question.system, *map(str, content)]))
            continue
        question.images += images
        is_answer = message.role == "assistant"
        if turns and turns[-1][0] == is_answer:
            for part in content:
                _append(turns[-1][1], part)
        else:
            turns.append((is_answer, content))
    if not turns or turns[0][0]:
        turns.insert(0, (False, []))
    if turns[-1][0]:
        turns.append((False, []))
    question.turns = [Turn(tuple(content if side else _images_first(content)), side) for side, content in turns]
    return question


def _content(message: Message, place: str) -> tuple[list[Segment], list[tuple[str, str]]]:
    """Returns a message's texts and `IMAGE`s, and the images' URLs."""
    if message.content is None or isinstance(message.content, str):
        return ([message.content] if message.content else []), []
    content: list[Segment] = []
    images: list[tuple[str, str]] = []
    takes_images = message.role not in (*SYSTEM, "assistant")
    for number, part in enumerate(message.content):
        if isinstance(part, ImagePart):
            url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
            if takes_images:
                _append(content, IMAGE)
                images.append((url, f"{place}.{number}.image_url"))
        elif part.text:
            _append(content, part.text)
    return content, images


def _images_first(content: list[Segment]) -> list[Segment]:
    """Moves images to the front where no text stands between them."""
    places = [place for place, part in enumerate(content) if part == IMAGE]
    if not places or places[-1] - places[0] >= len(places):
        return content  # text between images
    return [IMAGE] * len(places) + [part for part in content if part != IMAGE]


def _append(content: list[Segment], part: Segment) -> None:
    """Adds a text or image to a turn; texts that would touch get a line each."""
    if isinstance(part, str) and content and isinstance(content[-1], str):
        content.append("\n")
    content.append(part)
