"""The contract of a backend at run time, and the look-up of the one that a bundle needs.

A runner runs the stages of one bundle and owns its kv cache. `runtime/BACKEND/runner.py` holds the runner of a backend
and its `open_runner`, which takes the arguments of the one below.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np

from mobilevlm.commands import command
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.targets import TARGETS

from .embeddings import EmbeddingBlock
from .top_logits import Logits


class Runner(Protocol):
    """The stages of one bundle on one backend. N image tokens, S tokens of a call, D hidden size, V vocabulary.

    Attributes:
        max_context: tokens that the kv cache holds.
        prompts_by: stage that runs long prompts: `prefill`, or `decoder` where there is no separate prefill.
        same_arithmetic: whether the bundle's target computes in the arithmetic of the build's verification run, so that
            its floors hold here; False for an NPU or a GPU.
    """

    max_context: int
    prompts_by: str
    same_arithmetic: bool

    def encode_image(self, pixel_values: np.ndarray) -> EmbeddingBlock:
        """Runs the vision stage.

        Args:
            pixel_values: (1, 3, H, H) float32, normalised as `image.preprocess` does.

        Returns:
            (N, D) float32, on the host or on the device.
        """

    def decode(self, inputs_embeds: EmbeddingBlock, past: int) -> Logits:
        """Runs the decoder on tokens that follow the first `past` of the kv cache, and appends their keys and values.

        Args:
            inputs_embeds: (S, D) float32, S >= 1, past + S <= max_context.
            past: tokens of the kv cache that stay; later ones are overwritten.

        Returns:
            Logits of the last token, valid until the next call.
        """

    def prefill(self, inputs_embeds: EmbeddingBlock, past: int) -> Logits:
        """Runs tokens as `decode` runs a long prompt, however few they are.

        Args:
            inputs_embeds: as of `decode`.
            past: as of `decode`.
        """

    def read_cache(self, start: int, stop: int) -> np.ndarray:
        """Copies rows out of the kv cache.

        Args:
            start: index of the first token.
            stop: index behind the last token; none at all for 0 and 0.

        Returns:
            (2 * layers, G, stop - start, W) on the host in the cache's own dtype: keys and values in turns, each in G
            blocks of W values per token as the backend lays them out.
        """

    def write_cache(self, start: int, rows: np.ndarray) -> None:
        """Copies rows into the kv cache.

        Args:
            start: index of their first token, which has to be the one that they were read from.
            rows: what `read_cache` returned, from this bundle on this backend.
        """

    def remedy(self) -> str:
        """Returns what to do about a bundle whose stages compute something else here: a sentence without its period."""

    def close(self) -> None:
        """Frees engines and memory; nothing can be run afterwards."""


def open_runner(bundle: Bundle, profile_to: Path | None = None, on_cpu: bool = False) -> Runner:
    """Opens a bundle on the backend of its target.

    Args:
        bundle: what to run.
        profile_to: a directory that gets a profile of each stage when the runner is closed; None for no profile.
        on_cpu: whether graphs for an NPU or TensorRT run on the CPU; those for a CPU do anyhow.

    Raises:
        BundleError: this version does not know the bundle's target, or its backend cannot be profiled.
    """
    target = TARGETS.get(bundle.manifest.target)
    if target is None:
        build = command("export/build_engines.py", "--model", "DIR", "--target", "host")
        raise BundleError(
            f"{bundle.directory} was built for target {bundle.manifest.target}, which this version cannot run. "
            f"Build one for this machine: {build}"
        )
    runner: Runner = import_module(f".{target.backend}.runner", __package__).open_runner(bundle, profile_to, on_cpu)
    return runner
