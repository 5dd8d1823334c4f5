"""A conversation with a session: what was said and shown so far goes into every prompt."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from mobilevlm.text.prompt import Conversation

from .answer_options import answer_options
from .generate import Reply
from .sampling import Sampling
from .session import Session


class Dialogue:
    """Questions and answers in one template.

    Args:
        session: answers the questions.
        conv_mode: the conversation template; None for the model's own.
    """

    def __init__(self, session: Session, conv_mode: str | None = None):
        self._session, self._template = session, session.conversation(conv_mode).template
        self.reset()

    def reset(self) -> None:
        """Forgets what was said and shown."""
        # One name: an interruption leaves neither a question without its images nor images without their question.
        self._said: tuple[Conversation, list[np.ndarray]] = Conversation(self._template), []

    def ask(
        self, prompt: str, image: Any = None, *, sampling: Sampling | None = None, max_new_tokens: int = 512
    ) -> Reply:
        """Asks the next question. The exchange joins the conversation when the reply has ended, also one left early.

        Args:
            prompt: as of `Session.chat`, like the others.
            image: read now: the file may be another image, or gone, when the next question is asked.
            sampling: greedy when None.
            max_new_tokens: upper bound on the answer's length.

        Raises:
            UserError: as of `Session.chat`.
        """
        start = time.perf_counter()
        shown = self._session.read_images(image)
        before, images_before = self._said
        conversation, images = Conversation(self._template, list(before.messages)), images_before + shown
        conversation.ask(prompt, len(shown))

        def joined(text: str) -> None:
            conversation.answer(text)
            self._said = conversation, images

        return self._session.reply(conversation, images, answer_options(sampling, max_new_tokens), start, joined)
