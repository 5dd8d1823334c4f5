"""Calibration of a bundle's closed questions: a field of the manifest, which is replaced in one step and sealed.

Bundles without it have temperature 1 and never abstain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mobilevlm.errors import UserError

from .bundle import Bundle, BundleError, amend_manifest
from .manifest import ChoicesEntry
from .signature import SecretKey


@dataclass(frozen=True)
class ChoiceCalibration:
    """How the probabilities of a closed question's choices are computed, and when it is left unanswered.

    Attributes:
        temperature: divides the scores before the softmax, > 0.
        abstain: probability below which the likeliest choice is no answer, 0 to 1; 0 always answers.
        fitted_on: number of questions that the temperature was fitted on; 0 where it was not fitted.

    Raises:
        UserError: temperature or threshold is outside its range.
    """

    temperature: float = 1.0
    abstain: float = 0.0
    fitted_on: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UserError(f"the temperature of closed questions is {self.temperature}; it has to be above 0")
        if not 0 <= self.abstain <= 1:
            raise UserError(f"the abstain threshold is {self.abstain}; it has to be a probability, 0 to 1")


def read_choice_calibration(bundle: Bundle) -> ChoiceCalibration:
    """Returns a bundle's calibration, the default one where nobody calibrated it.

    Raises:
        BundleError: the manifest's field is not what `store_choice_calibration` writes.
    """
    try:
        return ChoiceCalibration(**bundle.manifest.choices)
    except (UserError, TypeError) as error:
        raise BundleError(f"{bundle.directory} has a wrong calibration of closed questions: {error}") from None


def store_choice_calibration(bundle: Bundle, calibration: ChoiceCalibration, key: SecretKey | None = None) -> Bundle:
    """Writes a calibration into a bundle's manifest, in place of an earlier one.

    Args:
        bundle: what was calibrated; only its own directory is written.
        calibration: to be used from now on.
        key: to sign the bundle with; without one it has no signature any more.

    Returns:
        The bundle with its new manifest.
    """
    entry: ChoicesEntry = {
        "temperature": calibration.temperature,
        "abstain": calibration.abstain,
        "fitted_on": calibration.fitted_on,
    }
    manifest = amend_manifest(bundle.directory, bundle.manifest, [], choices=entry, key=key)
    return Bundle(bundle.directory, manifest, bundle.config)
