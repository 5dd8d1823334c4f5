"""Facts of a precision: what the rest of a build has to know of it, stated in the precision's own file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.stage_form import StageForm
from mobilevlm.engines.stages import DECODER


@dataclass(frozen=True)
class SeparatePrefill:
    """How a precision serves as a second copy of the decoder, for prompts.

    Attributes:
        decoder: precision of the decoder that it goes beside: one that is slower at many tokens.
        layers: of the decoder in a file: of the weights, what is in memory at a time.
        from_decoder: whether its weights are computed from the decoder's when a bundle opens, not stored.
    """

    decoder: str
    layers: int
    from_decoder: bool = False


def on_every_machine() -> bool:
    """A precision that is made for no special unit."""
    return True


@dataclass(frozen=True)
class Facts:
    """A precision's properties.

    Attributes:
        tolerance: largest difference from PyTorch in float32 that its stages may show, as a fraction of the largest
            reference value: a second guard, behind decibels.
        bytes_per_weight: disk that a stage's weights take, divided by their number.
        table_dtype: of the embedding table that goes with a decoder of this precision; int8 has a scale for each row.
        form: what the device has to know; its last two fields are set by the build.
        chooses_weights: whether a decoder's weights are chosen by GPTQ where there is calibration data.
        fixes_ranges: whether it cannot do without calibration data: activations have ranges that are fixed beforehand.
        has_qdq: whether activations are quantised by QuantizeLinear, with calibrated scales where those are known;
            verification runs such a graph without it as well.
        packs_weights: whether its kernels read packed weights alone, so that verification has them packed in memory.
        value_dtype: of what flows between operators.
        lowering: in `export/lowerings/`, that it needs in the place of its target's own; empty for none.
        opset: of ONNX that its operators need; 0 for that of the backend's other graphs.
        prefill: how it serves as a separate prefill; None where it does not.
        budget_db: signal to noise that quantising a whole graph must leave; 0 where graphs are not quantised so.
        suits_machine: whether the machine at hand has the unit it is made for.
    """

    tolerance: float
    bytes_per_weight: float
    table_dtype: type[np.generic]
    form: StageForm
    chooses_weights: bool = False
    fixes_ranges: bool = False
    has_qdq: bool = False
    packs_weights: bool = False
    value_dtype: type[np.generic] = np.float32
    lowering: str = ""
    opset: int = 0
    prefill: SeparatePrefill | None = None
    budget_db: float = 0.0
    suits_machine: Callable[[], bool] = on_every_machine

    def calibrates(self, stage: str) -> bool:
        """Whether weights or ranges of a stage are chosen on calibration data."""
        return self.fixes_ranges or (self.chooses_weights and stage == DECODER)
