"""The one way to run a bundle: command line, server, benchmark and evaluation all go through a `Session`.

with Session("artifacts/demo-host-fp32") as session:
    for piece in session.chat("What is in the picture?", image="photo.jpg"):
        print(piece, end="", flush=True)
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mobilevlm.commands import localized
from mobilevlm.engines import stages
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.embed_tokens import EmbedTokens
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, load_image, preprocess
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX, Conversation, StopRule
from mobilevlm.text.tokenizer import Tokenizer

from .dialogue import Dialogue
from .embeddings import Block, Rows
from .generate import Prompt, Reply
from .kv_cache import CachedPrefix
from .runner import open_runner, scores
from .sampling import Sampler, Sampling
from .self_check import require, run_sample
from .top_logits import Likeliest
from .verdicts import is_known_right, key_of, remember_right

IMAGES_KEPT = 8  # image embeddings of about a megabyte each


class Session:
    """An opened bundle: stages, kv cache, image embeddings already computed. Not for several threads at once.

    Attributes:
        bundle: what was opened.
        config: of its model.
        tokenizer: of its model.
        max_context: rows of the kv cache.
        prompts_by: stage that long prompts run on.
    """

    def __init__(self, engine: str | Path, *, on_cpu: bool = False, check: bool = True):
        """Open a bundle; the first time on a machine, run its sample (`self_check.py`).

        Args:
            engine: its directory.
            on_cpu: whether graphs for an NPU or TensorRT should run on the CPU, to compare with; a CPU's do anyhow.
            check: whether to run the sample where this bundle was not found right before.

        Raises:
            BundleError: it is missing, incomplete, altered, not for this machine, or computes something else here than
                where it was built.
        """
        self.bundle = Bundle.open(engine)
        self.config = self.bundle.config
        self.tokenizer = Tokenizer(self.bundle.directory)
        self.tokenizer.add_tokens(self.config.control_tokens)
        self._table = EmbedTokens(self.bundle.path(stages.EMBED_TOKENS_FILE))
        if self._table.shape != (self.config.vocab_size, self.config.hidden_size):
            raise BundleError(
                f"{self.bundle.path(stages.EMBED_TOKENS_FILE)} has shape {self._table.shape}, its model needs "
                f"{(self.config.vocab_size, self.config.hidden_size)}. Build the bundle again: "
                f"{localized(self.bundle.manifest.command)}"
            )
        self._runner = open_runner(self.bundle, on_cpu=on_cpu)
        self.max_context = self._runner.max_context
        self.prompts_by: str = getattr(self._runner, "prompts_by", stages.DECODER)
        self._cached = CachedPrefix()
        self._owner: object = None
        self._image_embeds: OrderedDict[str, Block] = OrderedDict()
        if check:
            self._check()

    def _check(self) -> None:
        key = key_of(self.bundle, self._runner)
        if is_known_right(self.bundle, key):
            return
        try:
            require(self.bundle, run_sample(self.bundle, self._runner, self._rows))
        except BaseException:
            self.close()
            raise
        remember_right(self.bundle, key)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the engines and their memory back."""
        if self._runner is not None:
            self._runner.close()
        self._runner = self._table = None
        self._image_embeds.clear()

    def chat(
        self,
        prompt: str,
        image: Any = None,
        *,
        conv_mode: str = "v1",
        sampling: Sampling | None = None,
        max_new_tokens: int = 512,
    ) -> Reply:
        """Answer one question on its own; see `dialogue.Dialogue` for several.

        Args:
            prompt: what the user says, taken literally.
            image: a path, bytes or PIL image, a list of those, or None.
            conv_mode: the conversation template.
            sampling: greedy when None.
            max_new_tokens: upper bound on the answer's length.

        Raises:
            UserError: an unreadable image, an image for a text-only bundle, or a prompt longer than the context.
        """
        return Dialogue(self, conv_mode).ask(prompt, image, sampling=sampling, max_new_tokens=max_new_tokens)

    def read_image(self, image: Any) -> np.ndarray:
        """A picture as the vision stage takes it: (1, 3, H, H) float32; an array is taken for one already read.

        Raises:
            UserError: the picture cannot be read, or this is a text-only bundle.
        """
        if not self.bundle.has_vision:
            raise UserError(f"{self.bundle.directory} is a text-only model: it takes no image")
        return image if isinstance(image, np.ndarray) else preprocess(load_image(image), ImageSpec.of(self.config))

    def reply(
        self,
        conversation: Conversation,
        images: Sequence[np.ndarray],
        sampling: Sampling | None,
        max_new_tokens: int,
        start: float,
        on_end: Callable[[str], object],
    ) -> Reply:
        """The answer to a conversation's open question.

        Args:
            conversation: ends in a question.
            images: all it shows, oldest first, as `read_image` returns them.
            sampling: greedy when None.
            max_new_tokens: upper bound on the answer's length.
            start: `time.perf_counter` when the question was asked, for TTFT.
            on_end: called with the answer's text when it has ended.
        """
        if self._runner is None:
            raise UserError("this session is closed: open a new one")
        if max_new_tokens < 1:
            raise UserError(f"max_new_tokens is {max_new_tokens}; at least one token has to be allowed")
        prompt = self._prompt(conversation, images)
        rule = StopRule(self.tokenizer, conversation.template)
        return Reply(self, prompt, rule, Sampler(sampling or Sampling()), max_new_tokens, start, on_end)

    def _prompt(self, conversation: Conversation, images: Sequence[np.ndarray]) -> Prompt:
        """Tokenise, check the length before any image is encoded, and put the image embeddings in."""
        ids = self.tokenizer.encode(conversation.segments(start_end=self.config.mm_use_im_start_end))
        per_image = self.bundle.manifest.num_image_tokens
        length = len(ids) + len(images) * (per_image - 1)
        if length > self.max_context:
            raise UserError(
                f"the prompt has {length} tokens ({len(images)} images of {per_image}), the context holds "
                f"{self.max_context}: {length - self.max_context} too many. Say less, show fewer images, or begin anew"
            )
        encoded = [self._encoded(pixel_values) for pixel_values in images]
        blocks = iter(encoded)
        rows, keys = [], []
        for token in ids:
            if token == IMAGE_TOKEN_INDEX:
                digest, embeds, _ = next(blocks)
                rows.append(embeds)
                keys += [(digest, row) for row in range(len(embeds))]
            else:
                rows.append(self._rows(token))
                keys.append(token)
        return Prompt(ids, Rows(rows), keys, sum(milliseconds for *_, milliseconds in encoded))

    def _encoded(self, pixel_values: np.ndarray) -> tuple[str, Block, float]:
        """A picture's digest, its embeddings (N, D), and the milliseconds it took: 0 when it was seen before."""
        digest, milliseconds = hashlib.sha1(pixel_values.data).hexdigest(), 0.0
        if digest not in self._image_embeds:
            begin = time.perf_counter()
            self._image_embeds[digest] = self._runner.encode_image(pixel_values)
            milliseconds = (time.perf_counter() - begin) * 1e3
        self._image_embeds.move_to_end(digest)
        embeds = self._image_embeds[digest]
        if len(self._image_embeds) > IMAGES_KEPT:
            self._image_embeds.popitem(last=False)
        return digest, embeds, milliseconds

    def _rows(self, token: int) -> np.ndarray:
        return self._table.rows([token])

    def run_prompt(
        self, owner: object, inputs_embeds: Rows, keys: Sequence[Hashable]
    ) -> tuple[np.ndarray | Likeliest, int]:
        """Prefill what the kv cache does not hold yet; it belongs to `owner` until the next prompt.

        Args:
            owner: the answer being generated.
            inputs_embeds: (S, D), the whole prompt.
            keys: S keys of its rows.

        Returns:
            Logits of the last row as `Sampler.sample` takes them, and how many rows were reused.
        """
        self._owner = owner
        reused = self._cached.reusable(keys)
        self._cached.keep(reused)
        logits = scores(self._runner, inputs_embeds[reused:], reused)
        self._cached.append(keys[reused:])
        return logits, reused

    def run_token(self, owner: object, token: int) -> np.ndarray | Likeliest:
        """Append one token to the kv cache and return the logits after it as `Sampler.sample` takes them.

        Raises:
            UserError: another answer was begun since, so that the cache holds its prompt.
        """
        if self._owner is not owner:
            raise UserError(
                "another answer was begun in this session: finish one before the next, or open two sessions"
            )
        logits = scores(self._runner, Rows([self._rows(token)]), len(self._cached))
        self._cached.append([token])
        return logits
