"""A conversation with a session: what was said and shown so far goes into every prompt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilevlm.image import as_list
from mobilevlm.text.prompt import Conversation, template

from .generate import Reply
from .sampling import Sampling

if TYPE_CHECKING:
    from .session import Session


class Dialogue:
    """Questions and answers in one template."""

    def __init__(self, session: Session, conv_mode: str = "v1"):
        self._session, self._template = session, template(conv_mode)
        self.reset()

    def reset(self) -> None:
        """Forget what was said and shown."""
        self._conversation = Conversation(self._template)
        self._images: list[np.ndarray] = []

    def ask(
        self, prompt: str, image: Any = None, *, sampling: Sampling | None = None, max_new_tokens: int = 512
    ) -> Reply:
        """Ask the next question; arguments and errors are those of `Session.chat`.

        The exchange joins the conversation when the reply has ended, also one that was left early.
        """
        start = time.perf_counter()
        # Read now: the file may be another picture, or gone, when the next question is asked.
        shown = [self._session.read_image(item) for item in as_list(image)]
        conversation = Conversation(self._template, list(self._conversation.messages))
        conversation.ask(prompt, len(shown))
        images = self._images + shown

        def joined(text: str) -> None:
            conversation.answer(text)
            self._conversation, self._images = conversation, images

        return self._session.reply(conversation, images, sampling, max_new_tokens, start, joined)
