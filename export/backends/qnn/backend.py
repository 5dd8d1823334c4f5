"""ONNX Runtime QNN: what a build for a Hexagon NPU needs, writes, compiles and reports."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.commands import command
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.qnn.provider import require_package, versions
from mobilevlm.engines.qnn.socs import SOCS, Soc, find_soc
from mobilevlm.engines.stages import DECODER, decoder_parts
from mobilevlm.engines.targets import Target
from mobilevlm.errors import UserError
from mobilevlm.override import override

from ...precisions import facts_of
from ..backend import Backend
from ..results import Compilation, PhoneMeasure

if TYPE_CHECKING:
    from tqdm import tqdm

    from ...verification.stages import Stages
    from ...verification.written_weights import Written
    from ..stage_plan import StagePlan

# Of weights in one context binary: an NPU maps no more than some 3.5 GB of it.
BINARY_BYTES = 3_200_000_000


@dataclass(frozen=True)
class QnnBackend(Backend):
    """Builds for the Hexagon NPU of a Snapdragon.

    Attributes:
        soc: what graphs are compiled for; None where a device compiles them itself.
    """

    soc: Soc | None = None

    @property
    @override
    def system(self) -> str:
        """See `Backend`."""
        return self.soc.name if self.soc else ""

    @override
    def add_options(self, parser: argparse.ArgumentParser, source: argparse._MutuallyExclusiveGroup) -> None:
        """See `Backend`."""
        group = parser.add_argument_group("options for snapdragon")
        group.add_argument("--soc", metavar="NAME", help=f"which one: {', '.join(soc.name for soc in SOCS)}")
        group.add_argument("--no-compile", action="store_true", help="leave the graphs, which a device compiles itself")

    @override
    def refuse_options(self, arguments: argparse.Namespace, target: Target) -> None:
        """See `Backend`."""
        if arguments.soc or arguments.no_compile:
            raise UserError(f"--soc and --no-compile are for --target snapdragon, and this is {target.name}")

    @override
    def check(self, arguments: argparse.Namespace, target: Target, precisions: Mapping[str, str]) -> QnnBackend:
        """See `Backend`."""
        if bool(arguments.soc) == arguments.no_compile:
            raise UserError(
                f"--target {target.name} needs to know what it compiles for (--soc 8gen3), or --no-compile: give one "
                "of the two"
            )
        if not arguments.soc:
            return self
        soc = find_soc(arguments.soc)
        decoder = precisions[DECODER]
        if facts_of(target.backend, decoder).form.weight_bytes < 1 and not soc.takes_int4:
            raise UserError(f"{soc} does not take decoder={decoder}: leave it at a16w8")
        require_package()
        return replace(self, soc=soc)

    @override
    def command_words(self) -> list[str]:
        """See `Backend`."""
        return ["--soc", self.soc.name] if self.soc else ["--no-compile"]

    @override
    def cut(self, layers: int, target: Target, decoder_bytes: int) -> dict[str, range]:
        """See `Backend`: each piece fits into one context binary."""
        return decoder_parts(layers, -(-decoder_bytes // BINARY_BYTES))

    @override
    def disk_bytes(self, weight_bytes: Mapping[str, int], precisions: Mapping[str, str]) -> int:
        """See `Backend`: graphs, a binary of each, and for a while exact weights to compare with."""
        copies = 1 if self.soc is None else 2 if self.soc.shares_weights else 3
        return copies * sum(weight_bytes.values()) + 4 * max(weight_bytes.values())

    @override
    def write(self, plan: StagePlan, directory: Path, progress: tqdm) -> Written:
        """See `Backend`."""
        from .write import write_stages

        may_be_exact = self.soc is not None and self.soc.multiplies_16_bits
        return write_stages(plan, plan.required_calibration(), may_be_exact, directory, progress)

    @override
    def run(self, plan: StagePlan, directory: Path) -> Stages:
        """See `Backend`."""
        from .run import QnnStages

        return QnnStages(directory, plan.checkpoint.config, plan.parts, plan.max_context)

    @override
    def compile(self, plan: StagePlan, directory: Path, written: Written) -> Compilation:
        """See `Backend`: context binaries for `soc`."""
        from .compile import compile_stages
        from .report import render_compiled

        if self.soc is None:
            return Compilation()
        compiled, spare = compile_stages(plan, self.soc, directory)
        record = {"soc": self.soc.name, "htp": str(self.soc.htp)} | versions()
        return Compilation(record, spare, render_compiled(self.soc, compiled))

    @override
    def report_lines(self, plan: StagePlan, cache_row: int) -> list[str]:
        """See `Backend`."""
        from .report import npu_lines

        return npu_lines(plan, plan.required_calibration(), self.soc, cache_row)

    @override
    def phone_graphs(self, bundle: Bundle, target: Target) -> Callable[[Path], list[PhoneMeasure]]:
        """See `Backend`."""
        from .phone import copy_graphs

        if not bundle.manifest.compiled:
            build = command("export/build_engines.py", "--model", "DIR", "--target", "snapdragon", "--soc", "8gen3")
            raise BundleError(
                f"{bundle.directory} was built with --no-compile, and the kit is for compiled graphs: build it with "
                f"--soc, {build}"
            )
        return partial(copy_graphs, bundle)


BACKEND: Backend = QnnBackend()
