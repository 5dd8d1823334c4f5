"""TensorRT: what a build for an NVIDIA GPU needs, writes and reports, and where it is compiled."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from mobilevlm.commands import command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.candidates import AUTO
from mobilevlm.engines.compile import compile_bundle
from mobilevlm.engines.stages import decoder_parts
from mobilevlm.engines.targets import Target, candidate_names
from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt, is_installed, library_of
from mobilevlm.errors import UserError
from mobilevlm.override import override

from ..backend import Backend
from ..results import Built

if TYPE_CHECKING:
    from tqdm import tqdm

    from ...verification.stages import Peak, Stages
    from ...verification.written_weights import Written
    from ..stage_plan import StagePlan


@dataclass(frozen=True)
class TensorrtBackend(Backend):
    """Builds for TensorRT on a Jetson or a PC, and for TensorRT-RTX.

    Attributes:
        blocks: engines that the decoder is cut into; None for the target's own number.
        judges: whether NVIDIA's builder is asked about the graphs where the bundle is built.
    """

    blocks: int | None = None
    judges: bool = False

    @override
    def add_options(self, parser: argparse.ArgumentParser, source: argparse._MutuallyExclusiveGroup) -> None:
        """See `Backend`."""
        source.add_argument(
            "--engine", metavar="DIR", help="for TensorRT: a bundle that was built elsewhere, to be compiled here"
        )
        group = parser.add_argument_group("options for targets on TensorRT")
        group.add_argument(
            "--blocks",
            type=int,
            metavar="N",
            help="engines that the decoder is cut into, for boards with little memory (default: 1; orin-nano: one for "
            "every 12 layers)",
        )
        group.add_argument(
            "--judge",
            action="store_true",
            help="have NVIDIA's own builder make engines of the graphs here, without a GPU, and say in report.md what "
            "it made of them (pip install 'mobilevlm[rtx]')",
        )

    @override
    def refuse_options(self, arguments: argparse.Namespace, target: Target) -> None:
        """See `Backend`."""
        if arguments.precision == AUTO:
            raise UserError(
                f"--precision {AUTO} is for targets on TensorRT, where a board measures; {target.name}'s default is "
                "the quickest that was measured"
            )
        given = {"engine": arguments.engine, "blocks": arguments.blocks, "judge": arguments.judge or None}
        for name, value in given.items():
            if value is not None:
                raise UserError(f"--{name} is for targets on TensorRT, and this is {target.name}")

    @override
    def compile_built(self, arguments: argparse.Namespace) -> Path | None:
        """See `Backend`: `--engine`, beside which nothing else can be asked for."""
        if arguments.engine is None:
            return None
        spare = [name for name, value in vars(arguments).items() if value and name not in ("engine", "target", "sign")]
        if given := [f"--{name.replace('_', '-')}" for name in spare]:
            raise UserError(
                f"{', '.join(given)} cannot be changed any more: the bundle at --engine was built with its own"
            )
        built_for = Bundle.open(arguments.engine, compiling=True).manifest.target
        if built_for != arguments.target:
            raise UserError(f"{arguments.engine} was built for --target {built_for}, not for {arguments.target}")
        return compile_bundle(arguments.engine).directory

    @override
    def candidates(self, target: Target) -> list[str]:
        """See `Backend`: nobody knows which is the quickest on a board before it is measured."""
        return candidate_names(target)

    @override
    def check(self, arguments: argparse.Namespace, target: Target, precisions: Mapping[str, str]) -> TensorrtBackend:
        """See `Backend`."""
        if arguments.judge:
            import_tensorrt(RTX)
        return replace(self, blocks=arguments.blocks, judges=arguments.judge)

    @override
    def command_words(self) -> list[str]:
        """See `Backend`."""
        return ["--blocks", str(self.blocks)] if self.blocks else []

    @override
    def cut(self, layers: int, target: Target, decoder_bytes: int) -> dict[str, range]:
        """See `Backend`: building an engine takes memory, which some boards have little of."""
        blocks = -(-layers // (target.engine_layers or layers)) if self.blocks is None else self.blocks
        if not 1 <= blocks <= layers:
            raise UserError(f"--blocks {blocks}: this model's decoder has {layers} layers, cut it into 1 to {layers}")
        return decoder_parts(layers, blocks)

    @override
    def write(self, plan: StagePlan, directory: Path, progress: tqdm) -> Written:
        """See `Backend`."""
        from .write import write_stages

        return write_stages(plan, directory, progress)

    @override
    def run(self, plan: StagePlan, directory: Path) -> Stages:
        """See `Backend`: on a kv cache of what verification fills."""
        from ...verification.verify import rows_needed
        from .run import TensorrtStages

        rows = rows_needed(plan.checkpoint)
        return TensorrtStages(directory, plan.checkpoint.config, plan.precisions, plan.parts, rows)

    @override
    def report_lines(self, plan: StagePlan, cache_row: int) -> list[str]:
        """See `Backend`."""
        from .report import tensorrt_lines

        return tensorrt_lines(plan)

    @override
    def report_sections(self, plan: StagePlan, directory: Path, peaks: list[Peak]) -> str:
        """See `Backend`."""
        from .report import render_peaks, render_weights

        return render_weights(directory) + render_peaks(peaks)

    @override
    def judgement(self, bundle: Bundle) -> str:
        """See `Backend`."""
        from .report import render_judgement

        return render_judgement(bundle) if self.judges else ""

    @override
    def hand_over(self, built: Built) -> str:
        """See `Backend`: compiles the bundle where its TensorRT is installed, which is on the board."""
        make = command("engines/compile.py", built.out)
        if built.has_candidates:
            make = command("runtime/choose.py", "--engine", built.out)
        elsewhere = (
            f"copy this repository and {quote(str(built.out))} to the device ({built.target.device}), and there\n  "
        )
        if not is_installed(library_of(built.target.name)):
            return f"Prepared. Next: {elsewhere}{make}\n  {built.chat}"
        if built.has_candidates:
            return f"Next: {make}"
        compile_bundle(built.out)
        return f"Next: {elsewhere if built.target.has_portable_engines else ''}{built.chat}"


BACKEND: Backend = TensorrtBackend()
