"""Plan of a bundle's stages, as a backend's writer gets it: the model, and the form of its graphs."""

from __future__ import annotations

from dataclasses import dataclass

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.engines.targets import Target

from ..calibration.conversations import Conversations
from ..precisions import facts_of, module_name
from ..precisions.facts import Facts


@dataclass(frozen=True)
class StagePlan:
    """The stages of one build, fully decided.

    Attributes:
        checkpoint: the model to build from.
        target: the device to build for.
        precisions: stage to precision, for the stages this model has.
        max_context: rows of the kv cache.
        weight_bytes: stage to the bytes that its weights take on disk.
        parts: name to layers of each graph that the decoder is cut into; empty where it is one graph.
        calibration: conversations that weights and ranges are chosen on; None where nothing is.
        choose_weights: whether quantised weights are chosen on the calibration data; random ones are not.
    """

    checkpoint: Checkpoint
    target: Target
    precisions: dict[str, str]
    max_context: int
    weight_bytes: dict[str, int]
    parts: dict[str, range]
    calibration: Conversations | None
    choose_weights: bool

    @property
    def modules(self) -> dict[str, str]:
        """Stage to the module in `export/precisions` that writes its precision."""
        return {stage: module_name(self.target.backend, name) for stage, name in self.precisions.items()}

    @property
    def facts(self) -> dict[str, Facts]:
        """Stage to the facts of its precision."""
        return {stage: facts_of(self.target.backend, name) for stage, name in self.precisions.items()}

    def required_calibration(self) -> Conversations:
        """Returns the calibration data of a plan with fixed ranges, for which `make_plan` always reads some.

        Raises:
            ValueError: the plan was made by other means, without calibration data.
        """
        if self.calibration is None:
            raise ValueError(f"{self.precisions} needs calibration data, and the plan has none")
        return self.calibration
