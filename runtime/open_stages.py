"""What a bundle's stages need while they are open: runner, embedding table, one lock, one process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.embed_tokens import EmbedTokens
from mobilevlm.errors import UserError

from .embeddings import EmbeddingBlock
from .finite import require_finite_image, require_finite_tokens
from .one_process import OneProcess
from .runner import Runner
from .scrubber import Scrubber


class OpenStages:
    """Embedding table and runner of a bundle, until they are closed.

    Args:
        bundle: what was opened.
        table: its embedding table.
        runner: runs its stages.
        scrubber: looks for rot in the bundle's files, until they are closed; None for nobody.
    """

    def __init__(self, bundle: Bundle, table: EmbedTokens, runner: Runner, scrubber: Scrubber | None = None):
        self._bundle, self._scrubber = bundle, scrubber
        self._opened: tuple[EmbedTokens, Runner] | None = (table, runner)
        self._lock, self._process = threading.RLock(), OneProcess(runner)

    @property
    def lock(self) -> AbstractContextManager[bool]:
        """Lock of the stages and the kv cache; a thread that holds it may take it again.

        Raises:
            UserError: this is a forked child of the process that opened them.
        """
        self._process.require()  # before waiting for a lock that no thread of a child can give back
        return self._lock

    @property
    def runner(self) -> Runner:
        """Runner of the stages.

        Raises:
            UserError: they are closed, or a file of the bundle has rotted.
        """
        return self.require_open()[1]

    def embed(self, token_ids: Sequence[int]) -> np.ndarray:
        """Returns the embeddings of S text tokens: (S, D) float32.

        Raises:
            UserError: the stages are closed, a file of the bundle has rotted, or the table holds NaN or infinity for a
                token.
        """
        with self.lock:  # the table is a file with one position
            rows = self.require_open()[0].rows(token_ids)
        require_finite_tokens(rows, token_ids, self._bundle)
        return rows

    def encode_finite(self, pixel_values: np.ndarray) -> EmbeddingBlock:
        """Runs the vision stage: (1, 3, H, H) float32 to (N, D) float32; what is on a device is looked at later.

        Raises:
            NotFiniteError: the result holds NaN or infinity.
        """
        embeds = self.runner.encode_image(pixel_values)
        if isinstance(embeds, np.ndarray):
            require_finite_image(embeds, self._bundle)
        return embeds

    @property
    def damage(self) -> str | None:
        """What is wrong with a file of the bundle since it was opened; None where nothing was noticed."""
        return None if self._scrubber is None else self._scrubber.problem

    @property
    def is_mine(self) -> bool:
        """Whether this process opened them, not one that it was forked from."""
        return self._process.is_this

    def close(self) -> None:
        """Frees engines and memory."""
        if self._scrubber is not None:
            self._scrubber.stop()
        if self._opened is not None:
            self._opened[1].close()
        self._opened = None  # a runner's graphs go with the last reference to it

    def require_open(self) -> tuple[EmbedTokens, Runner]:
        """Returns table and runner.

        Raises:
            UserError: they are closed.
            BundleError: a file of the bundle has rotted: whether what is in memory was read before that, nobody knows.
        """
        if self._opened is None:
            raise UserError("this session is closed: open a new one")
        if (problem := self.damage) is not None:
            raise self._bundle.damaged(problem)
        return self._opened
