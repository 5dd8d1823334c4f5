"""Difference of a stage's tensor from its reference, and when it is acceptable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.decibels import snr_db
from mobilevlm.engines.manifest import Comparison
from mobilevlm.errors import UserError

from .stages import HALF_MAX, HEADROOM, Peak

FORM = ".form"  # ends a stage's name where the reference is PyTorch on the weights that were written
UNROUNDED = ".unrounded"  # the same, of a stage without its rounding of values


class VerificationError(UserError):
    """A stage differs from PyTorch by more than its precision allows; names stage, tensor and figures."""


@dataclass(frozen=True)
class Difference:
    """Difference of one tensor of one stage from PyTorch's.

    The tolerance is a fraction of `max_abs_reference`; `snr_db` is the reference's power over that of the difference,
    in decibels, and `floor_db` the least that its precision must leave of it (`written_form.py`).
    """

    stage: str
    tensor: str
    max_abs_diff: float
    mean_abs_diff: float
    max_abs_reference: float
    snr_db: float
    tolerance: float
    floor_db: float

    def recorded(self) -> Comparison:
        """Returns its entry in the bundle's manifest."""
        return {
            "stage": self.stage,
            "tensor": self.tensor,
            "max_abs_diff": self.max_abs_diff,
            "mean_abs_diff": self.mean_abs_diff,
            "max_abs_reference": self.max_abs_reference,
            "snr_db": self.snr_db,
            "tolerance": self.tolerance,
            "floor_db": self.floor_db,
        }

    @property
    def is_of_form(self) -> bool:
        """Whether the reference is PyTorch on the weights that were written."""
        return self.stage.endswith((FORM, UNROUNDED))

    @property
    def allowed(self) -> float:
        """Largest acceptable `max_abs_diff`."""
        return self.tolerance * self.max_abs_reference

    @property
    def acceptable(self) -> bool:
        """False also for NaN, which compares false with everything."""
        return self.max_abs_diff <= self.allowed and self.snr_db >= self.floor_db

    def __str__(self) -> str:
        return (
            f"stage {self.stage}, tensor {self.tensor}: {self.snr_db:.1f} dB, at least {self.floor_db:.1f}; max "
            f"difference {self.max_abs_diff:.3g}, mean {self.mean_abs_diff:.3g}, allowed {self.allowed:.3g}"
        )


@dataclass(frozen=True)
class Verification:
    """Result of a bundle's verification.

    Attributes:
        differences: how each tensor compares.
        golden: the sample's inputs, PyTorch's outputs, and the stages' own.
        peaks: how large float16 values got.
    """

    differences: list[Difference]
    golden: dict[str, np.ndarray]
    peaks: list[Peak]


def difference(
    stage: str, tensor: str, got: np.ndarray, reference: np.ndarray, tolerance: float, floor_db: float
) -> Difference:
    """Compares a tensor with its reference.

    Args:
        stage: for the result.
        tensor: its name.
        got: the stage's values.
        reference: PyTorch's, of the same shape.
        tolerance: largest difference, as a fraction of the largest reference value.
        floor_db: least signal to noise, in dB.
    """
    diff, size = np.abs(got.astype(np.float64) - reference), np.abs(reference.astype(np.float64))
    figures = diff.max(), diff.mean(), size.max(), snr_db(got, reference), tolerance, floor_db
    return Difference(stage, tensor, *map(float, figures))


def require(differences: Sequence[Difference]) -> None:
    """Refuses stages that differ too much.

    Raises:
        VerificationError: names them.
    """
    if bad := [item for item in differences if not item.acceptable]:
        detail = "; ".join(map(str, bad))
        raise VerificationError(f"the exported model differs from PyTorch: {detail}. Try a higher --precision")


def require_room(peaks: Sequence[Peak]) -> None:
    """Refuses values that float16 has no room for.

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
