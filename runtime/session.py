"""The one way to run a bundle: command line, benchmark and evaluation all go through a `Session`.

with Session("artifacts/demo-host-fp32") as session:
    for piece in session.chat("What is in the picture?", image="photo.jpg"):
        print(piece, end="", flush=True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess
from mobilevlm.text.prompt import Conversation, StopRule, template
from mobilevlm.text.tokenizer import Tokenizer

from .answer_options import AnswerOptions
from .decoder import Prompt, open_decoder
from .generate import Reply
from .json_answers.constraint import JsonConstraint
from .json_answers.grammars import JsonGrammars
from .sampling import Sampling
from .self_check import require, run_sample
from .verdicts import is_known_right, key_of, remember_right


class Session:
    """An opened bundle: stages, kv cache, image embeddings already computed. Not for several threads at once.

    Attributes:
        bundle: what was opened.
        config: the model's configuration.
        tokenizer: the model's tokenizer.
        decoder: its stages, from token ids and images to logits.
        max_context: tokens that the kv cache holds.
        prompts_by: stage that runs long prompts.
    """

    def __init__(self, engine: str | Path, *, on_cpu: bool = False, check: bool = True):
        """Opens a bundle; the first time on a machine, runs its sample (`self_check.py`).

        Args:
            engine: its directory.
            on_cpu: whether graphs for an NPU or TensorRT run on the CPU, to compare with; those for a CPU do anyhow.
            check: whether to run the sample where this bundle was not found right before.

        Raises:
            BundleError: it is missing, incomplete, altered, not for this machine, or computes something else here than
                where it was built.
        """
        self.bundle = Bundle.open(engine)
        self.config = self.bundle.config
        self.tokenizer = Tokenizer(self.bundle.directory)
        self.tokenizer.add_tokens(self.config.control_tokens)
        self.decoder = open_decoder(self.bundle, on_cpu)
        self.max_context, self.prompts_by = self.decoder.max_context, self.decoder.prompts_by
        self._grammars: JsonGrammars | None = None
        if check:
            self._check()

    def _check(self) -> None:
        key = key_of(self.bundle, self.decoder.runner)
        if is_known_right(self.bundle, key):
            return
        try:
            require(self.bundle, run_sample(self.decoder))
        except BaseException:
            self.close()
            raise
        remember_right(self.bundle, key)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the engines and their memory."""
        self.decoder.close()

    def chat(
        self,
        prompt: str,
        image: Any = None,
        *,
        conv_mode: str = "v1",
        sampling: Sampling | None = None,
        max_new_tokens: int = 512,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answers one question on its own; see `dialogue.Dialogue` for several.

        Args:
            prompt: what the user says, taken literally.
            image: a path, bytes or PIL image, a list of those, or None.
            conv_mode: the conversation template.
            sampling: greedy when None.
            max_new_tokens: upper bound on the answer's length.
            schema: JSON schema that the answer follows; None for an answer in words.

        Raises:
            UserError: an unreadable image, an image for a text-only bundle, a prompt longer than the context, or a
                schema that cannot be enforced.
        """
        start = time.perf_counter()
        constraint = None if schema is None else self.json_constraint(schema)
        options = AnswerOptions(sampling or Sampling(), max_new_tokens, constraint=constraint)
        conversation = Conversation(template(conv_mode))
        images = self.read_images(image)
        conversation.ask(prompt, len(images))
        return self.reply(conversation, images, options, start)

    def read_images(self, image: Any) -> list[np.ndarray]:
        """Reads one image, a list of images or None, each as `read_image` does."""
        return [self.read_image(item) for item in as_list(image)]

    def read_image(self, image: Any) -> np.ndarray:
        """Returns an image as the vision stage takes it: (1, 3, H, H) float32; an array is taken for one already read.

        Raises:
            UserError: the image cannot be read, or this is a text-only bundle.
        """
        if not self.bundle.has_vision:
            raise UserError(f"{self.bundle.directory} is a text-only model: it takes no image")
        return image if isinstance(image, np.ndarray) else preprocess(load_image(image), ImageSpec.of(self.config))

    def reply(
        self,
        conversation: Conversation,
        images: Sequence[np.ndarray],
        options: AnswerOptions,
        start: float,
        on_end: Callable[[str], object] = lambda text: None,
    ) -> Reply:
        """Returns the answer to a conversation's open question, which is generated when it is iterated over.

        Args:
            conversation: ends in a question.
            images: all it shows, oldest first, as `read_image` returns them.
            options: how the answer is generated.
            start: `time.perf_counter` when the question was asked, for TTFT.
            on_end: called with the answer's text when it has ended.

        Raises:
            UserError: the session is closed, the prompt is longer than the context.
        """
        prompt = self._prompt(conversation, images)
        rule = StopRule(self.tokenizer, conversation.template)
        return Reply(self.decoder, self.tokenizer, prompt, rule, options, start, on_end)

    def json_constraint(self, schema: Mapping[str, Any]) -> JsonConstraint:
        """Returns what makes an answer a JSON document of a schema: `AnswerOptions(constraint=...)`, one at a time.

        Raises:
            UserError: the schema is malformed or uses what cannot be enforced, or llguidance is not installed.
        """
        if self._grammars is None:
            self._grammars = JsonGrammars(self.tokenizer, self.config.vocab_size)
        return self._grammars.constraint(schema)

    def _prompt(self, conversation: Conversation, images: Sequence[np.ndarray]) -> Prompt:
        """Tokenises, checks the length before any image is encoded, and puts the image embeddings in."""
        ids = self.tokenizer.encode(conversation.segments(start_end=self.config.mm_use_im_start_end))
        per_image = self.bundle.manifest.num_image_tokens
        length = len(ids) + len(images) * (per_image - 1)
        if length > self.max_context:
            raise UserError(
                f"the prompt has {length} tokens ({len(images)} images of {per_image}), the context holds "
                f"{self.max_context}: {length - self.max_context} too many. Say less, show fewer images, or begin anew"
            )
        return self.decoder.prompt(ids, images)
