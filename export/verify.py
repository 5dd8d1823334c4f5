"""Every stage against PyTorch, before a bundle exists: the chain of truth's link from checkpoint to engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from mobilevlm.checkpoint import Checkpoint
from mobilevlm.engines import stages
from mobilevlm.errors import UserError

from .precisions import precision
from .reference import Reference, make_sample, prompt_rows
from .stage_runs import HALF_MAX, HEADROOM, Peak, Stages

DECODE_STEPS = 4
EXACT_DB = 200.0  # where nothing differs


class VerificationError(UserError):
    """A stage differs from PyTorch by more than its precision allows; names stage, tensor, max and mean difference."""


@dataclass(frozen=True)
class Difference:
    """How one tensor of one stage compares with PyTorch.

    The tolerance is a fraction of `max_abs_reference`; `snr_db` is the reference's power over that of the difference,
    in decibels.
    """

    stage: str
    tensor: str
    max_abs_diff: float
    mean_abs_diff: float
    max_abs_reference: float
    snr_db: float
    tolerance: float

    @property
    def allowed(self) -> float:
        """Largest acceptable `max_abs_diff`."""
        return self.tolerance * self.max_abs_reference

    @property
    def acceptable(self) -> bool:
        """False also for NaN, which compares false with everything."""
        return self.max_abs_diff <= self.allowed

    def __str__(self) -> str:
        return (
            f"stage {self.stage}, tensor {self.tensor}: max difference {self.max_abs_diff:.3g}, mean "
            f"{self.mean_abs_diff:.3g}, allowed {self.allowed:.3g}"
        )


@dataclass(frozen=True)
class Verification:
    """What a bundle records of its check.

    Attributes:
        differences: how each tensor compares.
        golden: the sample's inputs and PyTorch's outputs.
        peaks: how large float16 values got.
    """

    differences: list[Difference]
    golden: dict[str, np.ndarray]
    peaks: list[Peak]


def rows_needed(checkpoint: Checkpoint) -> int:
    """Rows of the kv cache that verification fills."""
    return prompt_rows(checkpoint) + DECODE_STEPS


def verify(checkpoint: Checkpoint, written: Stages, table: np.ndarray, modules: Mapping[str, str]) -> Verification:
    """Compare a build's stages with PyTorch.

    Args:
        checkpoint: the truth.
        written: what runs the stages, on a kv cache of at least `rows_needed` rows.
        table: the embedding table, (V, D).
        modules: stage to the module of its precision, for the tolerances.

    Raises:
        VerificationError: a difference is beyond its tolerance, or a value nearly beyond float16.
        UserError: PyTorch itself computes something that is not finite.
    """
    with tqdm(desc="verifying against PyTorch", unit="layer", disable=None) as progress:
        sample = make_sample(checkpoint)
        reference = Reference(checkpoint, sample, progress.update)
        progress.total = len(reference.layers()) + DECODE_STEPS + 1
        outputs = {}
        if sample.pixel_values is not None:
            outputs[stages.VISION] = {stages.IMAGE_EMBEDS: written.encode_image(sample.pixel_values.numpy())}
        rows = reference.inputs_embeds.numpy()[0]
        prefilled = written.prefill(rows)
        if prefilled is not None:
            outputs[stages.PREFILL] = {stages.LOGITS: prefilled}
        tokens, outputs[stages.DECODER] = _decode(written, table, rows, progress.update)
        for name, other in written.others().items():
            outputs[name] = _follow(other, table, rows, tokens)
        reference.follow(tokens)

    def tolerance(stage: str) -> float:
        return precision(modules[stage.split(".")[0]]).TOLERANCE

    differences = [
        _difference(stage, name, got, _beginning(reference.golden[name], got), tolerance(stage))
        for stage, tensors in outputs.items()
        for name, got in tensors.items()
    ]
    _require(differences)
    peaks = written.peaks()
    require_room(peaks)
    return Verification(differences, reference.golden, peaks)


def _decode(
    written: Stages, table: np.ndarray, rows: np.ndarray, on_step: Callable[[], object]
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Prefill, then greedy decode steps: their tokens, and outputs by the names the reference has them under."""
    tokens, logits, past = [], [], 0
    for _ in range(DECODE_STEPS + 1):
        logits.append(written.decode(rows, past))
        past += len(rows)
        tokens.append(int(logits[-1].argmax()))
        rows = table[tokens[-1]][None].astype(np.float32)
        on_step()
    return tokens, {stages.LOGITS: np.concatenate(logits)} | written.last_cache(past)


def _follow(other: Stages, table: np.ndarray, rows: np.ndarray, tokens: list[int]) -> dict[str, np.ndarray]:
    """Another form of the decoder on the same prompt and answer: its outputs."""
    logits, past = [other.decode(rows, 0)], len(rows)
    for token in tokens[:-1]:
        logits.append(other.decode(table[token][None].astype(np.float32), past))
        past += 1
    return {stages.LOGITS: np.concatenate(logits)} | other.last_cache(past)


def _beginning(reference: np.ndarray, got: np.ndarray) -> np.ndarray:
    """As much of the reference as was computed: a prefill has no later steps."""
    return reference[tuple(slice(size) for size in got.shape)]


def _difference(stage: str, tensor: str, got: np.ndarray, reference: np.ndarray, tolerance: float) -> Difference:
    diff, size = np.abs(got.astype(np.float64) - reference), np.abs(reference.astype(np.float64))
    noise = max(np.square(diff).sum(), np.finfo(float).tiny)
    snr_db = min(10 * np.log10(np.square(size).sum() / noise), EXACT_DB) if size.any() else 0.0
    figures = diff.max(), diff.mean(), size.max(), snr_db, tolerance
    return Difference(stage, tensor, *map(float, figures))


def _require(differences: list[Difference]) -> None:
    bad = [item for item in differences if not item.acceptable]
    if bad:
        detail = "; ".join(map(str, bad))
        raise VerificationError(f"the exported model differs from PyTorch: {detail}. Try a higher --precision")


def require_room(peaks: list[Peak]) -> None:
    """Refuse values that float16 has no room for.

    Raises:
        VerificationError: names the graph, the node and the precision that helps.
    """
    for peak in peaks:
        if not peak.fits:
            raise VerificationError(
                f"graph {peak.graph}, node {peak.node}: values get as large as {peak.largest:.3g} on the sample, too "
                f"close to the end of float16 ({HALF_MAX:.0f}, to be {HEADROOM:.0f} times as much). Build this stage "
                f"with --precision {peak.graph.split('.')[0]}=fp32"
            )
