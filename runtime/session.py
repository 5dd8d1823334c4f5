"""The one way to run a bundle: command line, benchmark and evaluation all go through a `Session`.

with Session("artifacts/demo-host-fp32") as session:
    for piece in session.chat("What is in the picture?", image="photo.jpg"):
        print(piece, end="", flush=True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.choice_calibration import read_choice_calibration
from mobilevlm.errors import UserError, user_path
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess
from mobilevlm.text.prompt import Conversation, StopRule, template
from mobilevlm.text.tokenizer import Tokenizer

from .answer_options import AnswerOptions
from .choice_tokens import check_choices, check_room, choice_tokens
from .closed_question import Choice, choose
from .decoder import open_decoder
from .generate import Reply
from .json_answers.constraint import JsonConstraint
from .json_answers.grammars import JsonGrammars
from .prefixes import load_prefix, require_prefixes, save_prefix
from .prompt import Prompt
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

    def __init__(self, engine: str | Path, *, on_cpu: bool = False, check: bool = True, prefix_cache_bytes: int = 0):
        """Opens a bundle; the first time on a machine, runs its sample (`self_check.py`).

        Args:
            engine: its directory.
            on_cpu: whether graphs for an NPU or TensorRT run on the CPU, to compare with; those for a CPU do anyhow.
            check: whether to run the sample where this bundle was not found right before.
            prefix_cache_bytes: most memory that kept prefixes take; prompts then run in pieces, so that answers are the
                same with and without a kept prefix. 0 keeps none: a prompt shares with the latest one alone.

        Raises:
            BundleError: it is missing, incomplete, altered, not for this machine, or computes something else here than
                where it was built.
        """
        if prefix_cache_bytes < 0:
            raise UserError(f"prefix_cache_bytes is {prefix_cache_bytes}; it is 0 for none, or a number of bytes")
        self.bundle = Bundle.open(engine)
        self.config, self._calibration = self.bundle.config, read_choice_calibration(self.bundle)
        self.tokenizer = Tokenizer(self.bundle.directory)
        self.tokenizer.add_tokens(self.config.control_tokens)
        self.decoder = open_decoder(self.bundle, on_cpu, prefix_cache_bytes)
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
        conv_mode: str | None = None,
        sampling: Sampling | None = None,
        max_new_tokens: int = 512,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answers one question on its own; see `dialogue.Dialogue` for several.

        Args:
            prompt: what the user says, taken literally.
            image: a path, bytes or PIL image, a list of those, or None.
            conv_mode: the conversation template; None for the model's own.
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
        conversation = self.conversation(conv_mode)
        images = self.read_images(image)
        conversation.ask(prompt, len(images))
        return self.reply(conversation, images, options, start)

    def conversation(self, conv_mode: str | None = None) -> Conversation:
        """Returns a conversation in which nothing was said, in a template; None is the model's own."""
        return Conversation(template(conv_mode or self.config.conv_mode))

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

    def choose(
        self,
        prompt: str,
        choices: Sequence[str],
        image: Any = None,
        *,
        conv_mode: str | None = None,
        abstain: float | None = None,
    ) -> Choice:
        """Answers a closed question with a probability for each of its choices, from one prefill.

        Args:
            prompt: as of `chat`, like image and conv_mode.
            choices: the answers to choose from, in the model's own words: at least two.
            image: a path, bytes or PIL image, a list of those, or None.
            conv_mode: the conversation template; None for the model's own.
            abstain: probability below which there is no answer, 0 to 1; None for the bundle's own threshold.

        Raises:
            UserError: as of `chat`; or the choices are too few, empty, the same, too long, or cannot be written.
        """
        start = time.perf_counter()
        conversation = self.conversation(conv_mode)
        images = self.read_images(image)
        conversation.ask(prompt, len(images))
        return self.choice(conversation, images, choices, start, abstain)

    def choice(
        self,
        conversation: Conversation,
        images: Sequence[np.ndarray],
        choices: Sequence[str],
        start: float,
        abstain: float | None = None,
    ) -> Choice:
        """Answers a conversation's open question as `choose` does.

        Args:
            conversation: as of `reply`, like images and start.
            images: all it shows, oldest first, as `read_image` returns them.
            choices: as of `choose`, like abstain.
            start: `time.perf_counter` when the question was asked.
            abstain: probability below which there is no answer; None for the bundle's own threshold.

        Raises:
            UserError: as of `choose`.
        """
        calibration = self._calibration if abstain is None else replace(self._calibration, abstain=abstain)
        texts = check_choices(choices)
        ids, length = self._token_ids(conversation, images)
        sequences = choice_tokens(self.tokenizer, conversation, texts, self.config.mm_use_im_start_end)
        check_room(texts, sequences, self.max_context - length + 1)  # the last token is not put into the kv cache
        return choose(self.decoder, self.decoder.prompt(ids, images), choices, sequences, calibration, start)

    def keep_prefix(self, conversation: Conversation, images: Sequence[np.ndarray]) -> int:
        """Prefills and keeps the beginning that a conversation's later prompts share.

        For a system prompt and images before they are asked about, or an answer while the next question is typed.

        Args:
            conversation: ends in a question or an answer; a question's text behind its last image is not kept.
            images: all it shows, oldest first, as `read_image` returns them.

        Returns:
            Number of tokens that are kept, 0 where nothing is worth it.

        Raises:
            UserError: the session keeps no prefixes, or the conversation is longer than the context.
        """
        require_prefixes(self.decoder)
        return self.decoder.keep_prefix(self._prompt(conversation, images))

    def save_prefix(self, path: str | Path, conversation: Conversation, images: Sequence[np.ndarray]) -> int:
        """Keeps a conversation's beginning, see `keep_prefix`, and writes it to a file for this bundle.

        Args:
            path: of the file; one that is there is replaced.
            conversation: ends in a question or an answer.
            images: all it shows, oldest first, as `read_image` returns them.

        Returns:
            Number of tokens in the file.

        Raises:
            UserError: as of `keep_prefix`, or there is nothing to save, or the prefix cache is too small for it.
            OSError: the folder cannot be written.
        """
        return save_prefix(self.decoder, self._prompt(conversation, images), user_path(path))

    def load_prefix(self, path: str | Path) -> int:
        """Keeps a beginning that `save_prefix` wrote, also in another process.

        Returns:
            Number of tokens in the file.

        Raises:
            UserError: it is missing or damaged, was saved with another bundle or version, or does not fit into the
                prefix cache.
        """
        return load_prefix(self.decoder, user_path(path))

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
        return self.decoder.prompt(self._token_ids(conversation, images)[0], images)

    def _token_ids(self, conversation: Conversation, images: Sequence[np.ndarray]) -> tuple[list[int], int]:
        """Returns a prompt's token ids, one for each image, and its length with all tokens of the images."""
        ids = self.tokenizer.encode(conversation.segments(start_end=self.config.mm_use_im_start_end))
        per_image = self.bundle.manifest.num_image_tokens
        length = len(ids) + len(images) * (per_image - 1)
        if length > self.max_context:
            raise UserError(
                f"the prompt has {length} tokens ({len(images)} images of {per_image}), the context holds "
                f"{self.max_context}: {length - self.max_context} too many. Say less, show fewer images, or begin anew"
            )
        return ids, length
