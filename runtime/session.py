"""The one way to run a bundle: command line, benchmark and evaluation all go through a `Session`.

with Session("artifacts/demo-host-fp32") as session:
    for piece in session.chat("What is in the picture?", image="photo.jpg"):
        print(piece, end="", flush=True)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.choice_calibration import read_choice_calibration
from mobilevlm.engines.trust import Trust
from mobilevlm.errors import UserError, require, user_path
from mobilevlm.image import ImageSpec, as_list, pixel_values
from mobilevlm.text.open_tokenizer import open_tokenizer
from mobilevlm.text.prompt import Conversation, StopRule, template

from .answer_options import AnswerOptions, answer_options
from .arguments import is_integer
from .choice import answer_closed, with_abstain
from .closed_question import Choice
from .generate import Reply
from .json_answers.constraint import JsonConstraint
from .json_answers.grammars import JsonGrammars
from .open_decoder import open_decoder
from .prefixes import load_prefix, require_prefixes, save_prefix
from .prompt_builder import PromptBuilder
from .sampling import Sampling
from .verdicts import require_right


class Session:
    """An opened bundle: stages, kv cache, image embeddings. Threads may share it, see `lock`; forked processes may not.

    Attributes:
        bundle: what was opened.
        config: the model's configuration.
        tokenizer: the model's tokenizer.
        decoder: its stages, from token ids and images to logits.
        max_context: tokens that the kv cache holds.
        prompts_by: stage that runs long prompts.
    """

    def __init__(
        self,
        engine: str | Path,
        *,
        on_cpu: bool = False,
        check: bool = True,
        prefix_cache_bytes: int = 0,
        trust: Trust = (),
        max_pixels: int | None = None,
        scrub: bool = True,
    ):
        """Opens a bundle; the first time on a machine, runs its sample (`self_check.py`).

        Args:
            engine: its directory.
            on_cpu: whether graphs for an NPU or TensorRT run on the CPU, to compare with; those for a CPU do anyhow.
            check: whether to run the sample where this bundle was not found right before.
            prefix_cache_bytes: most memory that kept prefixes take; prompts then run in pieces, so that answers are the
                same with and without a kept prefix. 0 keeps none: a prompt shares with the latest one alone.
            trust: public keys of minisign, of which one has to have signed the bundle; empty opens any.
            max_pixels: most pixels of an image, whatever its decoding costs; None for `load_image`'s own limits.
            scrub: whether to read the bundle's files again while it is open: where one has rotted, every answer ends in
                a `BundleError` (docs/reliability.md).

        Raises:
            BundleError: it is missing, incomplete, altered, not trusted, not for this machine, or computes something
                else here than where it was built.
        """
        size_ok = is_integer(prefix_cache_bytes) and prefix_cache_bytes >= 0
        require(size_ok, "prefix_cache_bytes", prefix_cache_bytes, "a number of bytes, or 0 for none")
        self._max_pixels = max_pixels
        self.bundle = Bundle.open(engine, trust=trust)
        self.config, self._calibration = self.bundle.config, read_choice_calibration(self.bundle)
        self.tokenizer = open_tokenizer(self.bundle.directory)
        self.tokenizer.add_tokens(self.config.control_tokens)
        self.decoder = open_decoder(self.bundle, on_cpu, prefix_cache_bytes, scrub)
        self.max_context, self.prompts_by = self.decoder.max_context, self.decoder.prompts_by
        self._grammars: JsonGrammars | None = None
        try:
            self._prompts = PromptBuilder(self.bundle, self.tokenizer, self.decoder)
            if check:
                require_right(self.decoder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def damage(self) -> str | None:
        """What is wrong with a file of the bundle since it was opened; None where nothing was noticed."""
        return self.decoder.damage

    def close(self) -> None:
        """Frees the engines and their memory, once the step that another thread may be at has ended."""
        self.decoder.close()

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """Lock for several threads: others wait while one asks and reads its answer inside `with session.lock`.

        Without it, an answer that another one overtakes ends in a `UserError`: each step of any call takes the lock.
        """
        return self.decoder.lock

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
            image: a path, bytes, an open file, a PIL image or an array (`load_image`), a list of those, or None.
            conv_mode: the conversation template; None for the model's own.
            sampling: greedy when None.
            max_new_tokens: upper bound on the answer's length.
            schema: JSON schema that the answer follows; None for an answer in words.

        Raises:
            UserError: an argument is wrong, an image unreadable, the prompt too long, a schema cannot be enforced.
        """
        start = time.perf_counter()
        constraint = None if schema is None else self.json_constraint(schema)
        options = answer_options(sampling, max_new_tokens, constraint)
        return self.reply(*self._asked(prompt, image, conv_mode), options, start)

    def conversation(self, conv_mode: str | None = None) -> Conversation:
        """Returns a conversation in which nothing was said, in a template; None is the model's own."""
        return Conversation(template(self.config.conv_mode if conv_mode is None else conv_mode))

    def read_images(self, image: Any) -> list[np.ndarray]:
        """Reads one image, a list of images or None, each as `read_image` does."""
        return [self.read_image(item) for item in as_list(image)]

    def read_image(self, image: Any) -> np.ndarray:
        """Returns an image as the vision stage takes it: (1, 3, H, H) float32, or in tiles, see `images/tiles.py`.

        An array of exactly this shape and dtype is one already read; all others are images, see `load_image`.

        Raises:
            UserError: the image cannot be read, or this is a text-only bundle.
        """
        if not self.bundle.has_vision:
            raise UserError(f"{self.bundle.directory} is a text-only model: it takes no image")
        return pixel_values(image, ImageSpec.of(self.config), self._max_pixels)

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
        require(isinstance(options, AnswerOptions), "options", options, "an AnswerOptions")
        prompt = self._prompts.prompt(conversation, images)
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
            image: a path, bytes, an open file, a PIL image or an array (`load_image`), a list of those, or None.
            conv_mode: the conversation template; None for the model's own.
            abstain: probability below which there is no answer, 0 to 1; None for the bundle's own threshold.

        Raises:
            UserError: as of `chat`; or the choices are too few, empty, the same, too long, or cannot be written.
        """
        start = time.perf_counter()
        return self.choice(*self._asked(prompt, image, conv_mode), choices, start, abstain)

    def choice(
        self,
        conversation: Conversation,
        images: Sequence[np.ndarray],
        choices: Sequence[str],
        start: float,
        abstain: float | None = None,
    ) -> Choice:
        """Answers a conversation's open question as `choose` does, with the same errors.

        Args:
            conversation: as of `reply`, like images and start.
            images: all it shows, oldest first, as `read_image` returns them.
            choices: as of `choose`, like abstain.
            start: `time.perf_counter` when the question was asked.
            abstain: as of `choose`.
        """
        calibration = with_abstain(self._calibration, abstain)
        return answer_closed(self._prompts, conversation, images, choices, calibration, start)

    def keep_prefix(self, conversation: Conversation, images: Sequence[np.ndarray]) -> int:
        """Prefills and keeps the beginning that a conversation's later prompts share; returns its tokens' number, or 0.

        For a system prompt and images before they are asked about, or an answer while the next question is typed.

        Args:
            conversation: ends in a question or an answer; a question's text behind its last image is not kept.
            images: all it shows, oldest first, as `read_image` returns them.

        Raises:
            UserError: the session keeps no prefixes, or the conversation is longer than the context.
        """
        require_prefixes(self.decoder)
        return self.decoder.keep_prefix(self._prompts.prompt(conversation, images))

    def save_prefix(self, path: str | Path, conversation: Conversation, images: Sequence[np.ndarray]) -> int:
        """Keeps a conversation's beginning, and writes it to a file for this bundle; returns its number of tokens.

        Args:
            path: of the file; one that is there is replaced.
            conversation: as of `keep_prefix`, like images and errors.
            images: all it shows, oldest first.

        Raises:
            UserError: there is nothing to save, or the prefix cache is too small for it.
            OSError: the folder cannot be written.
        """
        return save_prefix(self.decoder, self._prompts.prompt(conversation, images), user_path(path))

    def load_prefix(self, path: str | Path) -> int:
        """Keeps a beginning that `save_prefix` wrote, also in another process; returns its number of tokens.

        Raises:
            UserError: it is missing, damaged, of another bundle or version, or does not fit into the prefix cache.
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

    def _asked(self, prompt: str, image: Any, conv_mode: str | None) -> tuple[Conversation, list[np.ndarray]]:
        conversation, images = self.conversation(conv_mode), self.read_images(image)
        conversation.ask(prompt, len(images))
        return conversation, images
