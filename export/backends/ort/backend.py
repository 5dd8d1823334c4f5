"""ONNX Runtime on a CPU: what a build for it needs, writes and reports."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.ort import openvino
from mobilevlm.engines.stage_form import OPENVINO
from mobilevlm.engines.stages import PREFILL
from mobilevlm.engines.targets import Target
from mobilevlm.override import override

from ...precisions import facts_of
from ..backend import Backend
from ..results import Compilation, PhoneMeasure

if TYPE_CHECKING:
    from tqdm import tqdm

    from ...verification.stages import Peak, Stages
    from ...verification.written_weights import Written
    from ..stage_plan import StagePlan


@dataclass(frozen=True)
class OrtBackend(Backend):
    """Builds for ONNX Runtime's CPU provider, and for XNNPACK and OpenVINO where a target or a precision has them."""

    @override
    def check(self, arguments: argparse.Namespace, target: Target, precisions: Mapping[str, str]) -> OrtBackend:
        """See `Backend`: there are no options."""
        for name in precisions.values():
            if facts_of(target.backend, name).form.runtime == OPENVINO:
                openvino.require_package(f"precision {name}")
        return self

    @override
    def write(self, plan: StagePlan, directory: Path, progress: tqdm) -> Written:
        """See `Backend`."""
        from .write import write_stages

        return write_stages(plan, directory, progress)

    @override
    def run(self, plan: StagePlan, directory: Path) -> Stages:
        """See `Backend`."""
        from .run import OrtStages

        return OrtStages(directory, plan.checkpoint.config, plan.precisions, plan.max_context)

    @override
    def compile(self, plan: StagePlan, directory: Path, written: Written) -> Compilation:
        """See `Backend`: weights that a prefill shares with the decoder are stored once."""
        from .prefill_weights import store_once

        if PREFILL in written.written_from:
            store_once(directory, written.graphs[PREFILL], written.sources[PREFILL])
        return Compilation()

    @override
    def report_lines(self, plan: StagePlan, cache_row: int) -> list[str]:
        """See `Backend`."""
        from .report import weight_lines

        return weight_lines(plan)

    @override
    def report_sections(self, plan: StagePlan, directory: Path, peaks: list[Peak]) -> str:
        """See `Backend`: XNNPACK's share of each stage, where the target has it."""
        from .xnnpack_coverage import render_stages

        return render_stages(directory, plan.precisions) if plan.target.xnnpack else ""

    @override
    def phone_graphs(self, bundle: Bundle, target: Target) -> Callable[[Path], list[PhoneMeasure]] | None:
        """See `Backend`: a phone runs what was built for its CPU."""
        from .phone import copy_graphs

        return partial(copy_graphs, bundle) if target.xnnpack else None


BACKEND: Backend = OrtBackend()
