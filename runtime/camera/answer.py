"""One question about one image, asked of a session: freely, or with choices for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from mobilevlm.errors import UserError

from ..session import Session

# What MobileVLM was trained to answer in a word after.
_BRIEFLY = "\nAnswer the question using a single word or phrase."
# How it says what people type otherwise: the probability of `yes` itself is next to nothing.
_SAID = {"yes": "Yes", "no": "No"}


@dataclass(frozen=True)
class Answer:
    """What a session says about an image.

    Attributes:
        text: the choice, or the free answer; None where the session abstains.
        probabilities: of each choice; None of a free answer.
    """

    text: str | None
    probabilities: Mapping[str, float] | None = None

    @property
    def margin(self) -> float:
        """Probability of the likeliest choice less that of the second; 1 where there are no probabilities."""
        ordered = sorted(self.probabilities.values(), reverse=True) if self.probabilities else []
        return ordered[0] - ordered[1] if len(ordered) > 1 else 1.0


def ask(
    session: Session,
    question: str,
    image: Image.Image,
    choices: Sequence[str] = (),
    *,
    conv_mode: str | None = None,
    max_new_tokens: int = 48,
) -> Answer:
    """Asks a session about an image.

    Args:
        session: answers.
        question: what to ask.
        image: what to ask about.
        choices: the answers that are possible; none for any.
        conv_mode: the conversation template; None for the model's own.
        max_new_tokens: upper bound on a free answer's length.
    """
    prompt = question + _BRIEFLY if choices else question
    if choices:
        choice = session.choose(prompt, [_SAID.get(one.lower(), one) for one in choices], image, conv_mode=conv_mode)
        text = None if choice.answer is None else choices[choice.choices.index(choice.answer)]
        return Answer(text, dict(zip(choices, map(float, choice.probabilities), strict=True)))
    return Answer("".join(session.chat(prompt, image, conv_mode=conv_mode, max_new_tokens=max_new_tokens)).strip())


def choices_of(text: str | None) -> list[str]:
    """Returns the choices of a comma-separated text, none for None.

    Raises:
        UserError: fewer than two, an empty one, or one twice.
    """
    if text is None:
        return []
    choices = [one.strip() for one in text.split(",")]
    if len(choices) < 2 or not all(choices) or len({one.lower() for one in choices}) < len(choices):
        raise UserError(f"--choices {text}: give two or more different answers, with commas between them")
    return choices
