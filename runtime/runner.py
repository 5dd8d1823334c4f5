"""What a backend has to do: run the stages of one bundle and keep its kv cache."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.targets import TARGETS, TENSORRT

from .embeddings import Block, Rows
from .top_logits import Likeliest


class Runner(Protocol):
    """The stages of one bundle on one backend.

    Attributes:
        max_context: rows the kv cache holds.
    """

    max_context: int

    def encode_image(self, pixel_values: np.ndarray) -> Block:
        """Run the vision stage: (1, 3, H, H) float32 to (N, D) float32, or to what `np.asarray` makes that."""

    def decode(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        """Run the decoder on rows that follow the first `past` rows of the kv cache, and append theirs to it.

        Args:
            inputs_embeds: (S, D) float32, S >= 1, past + S <= max_context.
            past: cache rows that stay; later ones are overwritten.

        Returns:
            (V,) float32 logits of the last row, valid until the next call.
        """

    def close(self) -> None:
        """Give engines and memory back; nothing can be run afterwards."""


@runtime_checkable
class SortingRunner(Runner, Protocol):
    """One whose device sorts out what a token is chosen from."""

    def likeliest(self, inputs_embeds: Rows, past: int) -> Likeliest:
        """`decode`, whose logits stay on the device but for the largest."""


def scores(runner: Runner, inputs_embeds: Rows, past: int) -> np.ndarray | Likeliest:
    """`Runner.decode`, with as much of the logits as a `Sampler` needs."""
    if isinstance(runner, SortingRunner):
        return runner.likeliest(inputs_embeds, past)
    return runner.decode(np.asarray(inputs_embeds), past)


def open_runner(bundle: Bundle, profile_to: Path | None = None, on_cpu: bool = False) -> Runner:
    """The runner of the backend a bundle's target names.

    Args:
        bundle: what to run.
        profile_to: a directory that gets a profile of each stage when the runner is given up.
        on_cpu: whether graphs for an NPU or TensorRT should run on the CPU; a CPU's do anyhow.

    Raises:
        BundleError: this version has none for it, or it was profiled and its backend has no profile.
    """
    target = TARGETS.get(bundle.manifest.target)
    if target is not None and target.backend == "ort":
        from .ort.runner import OrtRunner

        return OrtRunner(bundle, profile_to)
    if target is not None and target.backend == "qnn":
        from .qnn.runner import QnnRunner

        if profile_to is not None:
            raise BundleError(f"{bundle.directory} is for an NPU, of which there is no profile by operator")
        return QnnRunner(bundle, on_cpu)
    if target is not None and target.backend == TENSORRT:
        if profile_to is not None:
            raise BundleError(f"{bundle.directory} is for TensorRT, which profiles by layer with trtexec")
        if on_cpu:
            from .tensorrt.on_cpu import GraphRunner

            return GraphRunner(bundle)
        from .tensorrt.runner import TrtRunner

        return TrtRunner(bundle)
    raise BundleError(
        f"{bundle.directory} was built for target {bundle.manifest.target}, which this version cannot run. "
        "Build one for this machine: python export/build_engines.py --model DIR --target host"
    )
