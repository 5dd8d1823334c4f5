"""Embeddings in, logits out: a bundle's stages with its embedding table, image embeddings and kv cache.

`prompt` puts a prompt together, `run_prompt` and `run_token` generate behind what the kv cache holds already. `embed`,
`encode_image`, `decode` and `prefill` are the stages themselves, for checks and measurements.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.embed_tokens import EmbedTokens
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

from .embeddings import EmbeddingBlock, Embeddings
from .finite import has_finite_top, not_finite
from .images import KeptImages
from .kv_cache import CachedPrefix
from .open_stages import OpenStages
from .pieces import Piece, cut
from .prefix_cache import PrefixCache
from .prompt import Prompt, PromptImage
from .runner import Runner
from .scrubber import Scrubber
from .top_logits import Logits


class Decoder:
    """An opened bundle between token ids and logits.

    Several threads may use it, each call under `lock`; logits are the caller's as long as it holds the lock.

    Args:
        bundle: what was opened.
        table: its embedding table.
        runner: runs its stages; closed with the decoder.
        prefixes: prefix cache of the runner, None for none.
        scrubber: looks for rot in the bundle's files, None for nobody; stopped with the decoder.

    Attributes:
        bundle: as above.
        prefixes: as above.
        max_context: tokens that the kv cache holds.
        prompts_by: stage that runs long prompts.
        full_logits: whether to hand out all logits, also where a device returns the largest alone: to compare the two.
    """

    def __init__(
        self,
        bundle: Bundle,
        table: EmbedTokens,
        runner: Runner,
        prefixes: PrefixCache | None = None,
        scrubber: Scrubber | None = None,
    ):
        self.bundle, self.max_context, self.prompts_by = bundle, runner.max_context, runner.prompts_by
        self.prefixes = prefixes
        self.full_logits = False
        self._stages = OpenStages(bundle, table, runner, scrubber)
        self._cached = CachedPrefix()
        self._running: Prompt | None = None
        width = bundle.config.hidden_size
        self._images = KeptImages(self._stages.encode_finite, bundle.manifest.num_image_tokens, width)

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """Lock of the stages and the kv cache, see `OpenStages.lock`."""
        return self._stages.lock

    @property
    def runner(self) -> Runner:
        """Backend's runner of the stages; `UserError` after `close`."""
        return self._stages.runner

    @property
    def damage(self) -> str | None:
        """What is wrong with a file of the bundle since it was opened, see `OpenStages.damage`."""
        return self._stages.damage

    def close(self) -> None:
        """Frees engines, kv cache, image embeddings and kept prefixes, when the call in progress has ended."""
        if not self._stages.is_mine:  # they are the parent process's
            return
        with self.lock:
            self._stages.close()
            self._running = None
            self._images.clear()
            if self.prefixes is not None:
                self.prefixes.clear()

    def embed(self, token_ids: Iterable[int]) -> np.ndarray:
        """Returns the embeddings of S text tokens: (S, D) float32."""
        return self._stages.embed(list(token_ids))

    def encode_image(self, pixel_values: np.ndarray) -> EmbeddingBlock:
        """Runs the vision stage: (1, 3, H, H) float32 to (N, D) float32, on the host or on the device."""
        return self.runner.encode_image(pixel_values)

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> Logits:
        """Runs the decoder; an answer in progress cannot go on, and the next prompt is run from its first token.

        Args:
            inputs_embeds: (S, D) float32, S >= 1, past + S <= max_context.
            past: tokens of the kv cache that stay; later ones are overwritten.

        Returns:
            Logits of the last token, valid until the next call.
        """
        self.forget()
        return self._handed_out(self.runner.decode(inputs_embeds, past))

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> Logits:
        """Runs tokens as `decode` runs a long prompt, however few they are.

        Args:
            inputs_embeds: as of `decode`.
            past: as of `decode`.
        """
        self.forget()
        return self._handed_out(self.runner.prefill(inputs_embeds, past))

    def forget(self) -> None:
        """Forgets what the kv cache holds: the next prompt is run from its first token, or from a kept prefix."""
        self._running = None
        self._cached.keep(0)
        if self.prefixes is not None:
            self.prefixes.forget_held()

    def splice(self, input_ids: Iterable[int], image_embeds: Iterable[EmbeddingBlock]) -> Embeddings:
        """Embeds a prompt: (S, D), image embeddings in their places.

        Args:
            input_ids: token ids, `IMAGE_TOKEN_INDEX` where an image is.
            image_embeds: (N, D) each, in their order; no more are taken than there are places.
        """
        ids, images = list(input_ids), iter(image_embeds)
        rows = self.embed([token for token in ids if token != IMAGE_TOKEN_INDEX])
        texts = (rows[at : at + 1] for at in range(len(rows)))
        return Embeddings([next(images) if token == IMAGE_TOKEN_INDEX else next(texts) for token in ids])

    def prompt(self, input_ids: Sequence[int], images: Sequence[np.ndarray]) -> Prompt:
        """Puts images into a prompt, which are encoded when `run_prompt` needs them and they were not lately.

        Args:
            input_ids: token ids, `IMAGE_TOKEN_INDEX` where an image is.
            images: (1, 3, H, H) float32 each, in their order.
        """
        shown = [PromptImage(self._images, pixel_values) for pixel_values in images]
        image_keys = iter([image.keys for image in shown])
        keys: list[Hashable] = []
        for token in input_ids:
            keys += next(image_keys) if token == IMAGE_TOKEN_INDEX else [token]
        return Prompt(input_ids, self.splice(input_ids, shown), keys, shown, self.pieces(input_ids, keys))

    def pieces(self, input_ids: Sequence[int], keys: Sequence[Hashable]) -> tuple[Piece, ...]:
        """Returns the pieces that a prompt is run in, see `pieces.cut`; none without a prefix cache.

        Args:
            input_ids: token ids, `IMAGE_TOKEN_INDEX` where an image is.
            keys: of the tokens.
        """
        if self.prefixes is None:
            return ()
        return cut(input_ids, keys, self._images.count, self.bundle.config.eos_token_id)

    def run_prompt(self, prompt: Prompt) -> tuple[Logits, int]:
        """Prefills what neither kv cache nor prefix cache holds; the kv cache belongs to this prompt until the next.

        Returns:
            Logits of the prompt's last token, valid until the next call, and how many tokens were reused.

        Raises:
            BundleError: a file of the bundle has rotted.
            NotFiniteError: a stage computed NaN or infinity.
        """
        with self.lock:
            self._running = prompt
            if self.prefixes is None:
                reused = done = self._cached.reusable(prompt.keys)
            else:
                whole = [piece for piece in prompt.pieces if piece.stop < len(prompt.keys)]
                reused, done = self._run_pieces(prompt, whole)
            return self._handed_out(self._run_rows(prompt, done, len(prompt.keys))), reused

    def keep_prefix(self, prompt: Prompt) -> int:
        """Prefills the whole pieces of a prompt, so that the prefix cache holds them.

        Returns:
            Number of tokens in them.
        """
        with self.lock:
            self._running = prompt
            return self._run_pieces(prompt, prompt.pieces)[1]

    def _run_pieces(self, prompt: Prompt, pieces: Sequence[Piece]) -> tuple[int, int]:
        """Runs pieces that are not kept; returns how many tokens were reused, and how many the kv cache holds then."""
        if self.prefixes is None:
            return 0, 0
        self._cached.keep(0)
        reused = done = self.prefixes.restore(pieces, self.runner)
        self._cached.append(prompt.keys[:reused])
        for piece in pieces:
            if piece.start >= reused:
                self._run_rows(prompt, piece.start, piece.stop)
                self.prefixes.ran(piece, self.runner)
                done = piece.stop
        return reused, done

    def _run_rows(self, prompt: Prompt, start: int, stop: int) -> Logits:
        """Runs tokens of a prompt behind those before them, which the kv cache holds."""
        self._cached.keep(start)
        logits = self._sound(self.runner.decode(prompt.inputs_embeds[start:stop], start), prompt, stop)
        self._cached.append(prompt.keys[start:stop])
        return logits

    def run_token(self, prompt: Prompt, token: int) -> Logits:
        """Appends a generated token to the kv cache.

        Args:
            prompt: the prompt that the token answers.
            token: its id.

        Returns:
            Logits of the next token, valid until the next call.

        Raises:
            UserError: another answer was begun since, so that the cache holds its prompt.
            BundleError: a file of the bundle has rotted.
            NotFiniteError: the decoder computed NaN or infinity.
        """
        with self.lock:
            self._require_running(prompt)
            past = len(self._cached)
            logits = self._sound(self.runner.decode(self.embed((token,)), past), prompt, past + 1)
            self._cached.append((token,))
            return self._handed_out(logits)

    def wind_back(self, prompt: Prompt, count: int) -> None:
        """Takes tokens out of the kv cache again: the next one goes behind the first `count` that follow a prompt.

        Args:
            prompt: what `run_prompt` was given.
            count: tokens behind it that stay, no more than there are.

        Raises:
            UserError: another answer was begun since, so that the cache holds its prompt.
        """
        with self.lock:
            self._require_running(prompt)
            self._cached.keep(len(prompt.keys) + count)

    def _sound(self, logits: Logits, prompt: Prompt, count: int) -> Logits:
        """Returns the logits behind the first `count` tokens of prompt and answer, if one can be sampled from them."""
        if not has_finite_top(logits):
            error = not_finite(logits, prompt.images, count, len(prompt.keys), self.bundle)
            self.forget()  # what led to them is not to be reused
            self._images.clear()
            raise error
        return logits

    def _require_running(self, prompt: Prompt) -> None:
        self._stages.require_open()
        if self._running is not prompt:
            raise UserError(
                "another answer was begun in this session: finish one before the next (several threads: ask and read "
                "inside `with session.lock`), or open two sessions"
            )

    def _handed_out(self, logits: Logits) -> Logits:
        return np.asarray(logits) if self.full_logits else logits
