"""Contract of a backend, and the look-up of one by the name of its folder.

A backend is a folder beside this file whose `backend.py` holds one object, `BACKEND`; targets name the folder
(`engines/targets.py`). Neither this file nor a `backend.py` imports PyTorch or ONNX before it writes: a command line is
refused, and `--help` shown, without them.
"""

from __future__ import annotations

import argparse
from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.targets import TARGETS, Target

from .results import Built, Compilation, PhoneMeasure

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..verification.stages import Peak, Stages
    from ..verification.written_weights import Written
    from .stage_plan import StagePlan


class Backend(Protocol):
    """Builder of bundles for one runtime; methods with a body are for backends that have nothing of the kind.

    The object that `backend_of` returns has the defaults of all options; `check` returns one with those of a command
    line.
    """

    @property
    def system(self) -> str:
        """Name of the system that graphs are compiled for, part of a bundle's default name; empty for none."""
        return ""

    def add_options(self, parser: argparse.ArgumentParser, source: argparse._MutuallyExclusiveGroup) -> None:
        """Declares the command-line options that only this backend has.

        Args:
            parser: of `build_engines.py`.
            source: its group of options of which one says what to build from.
        """
        return None

    def refuse_options(self, arguments: argparse.Namespace, target: Target) -> None:
        """Refuses this backend's options in a command line for a target of another backend.

        Args:
            arguments: the command line.
            target: of another backend.

        Raises:
            UserError: one of them is there; names whom it is for.
        """
        return None

    def compile_built(self, arguments: argparse.Namespace) -> Path | None:
        """Compiles a bundle that was built elsewhere, where the command line asks for that instead of a build.

        Args:
            arguments: the command line.

        Returns:
            The bundle's directory; None where a build is asked for.
        """
        return None

    def candidates(self, target: Target) -> list[str]:
        """Returns the precisions of `--precision auto`, from which the device chooses; none where it cannot."""
        return []

    @abstractmethod
    def check(self, arguments: argparse.Namespace, target: Target, precisions: Mapping[str, str]) -> Backend:
        """Checks this backend's options, and that the packages it needs are installed.

        Args:
            arguments: the command line.
            target: the device to build for.
            precisions: stage to precision.

        Returns:
            This backend with these options.

        Raises:
            UserError: an option or a package is missing, or options do not go together.
        """

    def command_words(self) -> list[str]:
        """Returns the command-line words that give this object its options."""
        return []

    def cut(self, layers: int, target: Target, decoder_bytes: int) -> dict[str, range]:
        """Cuts a decoder into graphs.

        Args:
            layers: of the decoder.
            target: the device to build for.
            decoder_bytes: size of the decoder's weights.

        Returns:
            Name and layers of each graph; nothing where the decoder stays one graph.

        Raises:
            UserError: it cannot be cut as an option says.
        """
        return {}

    def disk_bytes(self, weight_bytes: Mapping[str, int], precisions: Mapping[str, str]) -> int:
        """Returns the disk space of a build when it is at its largest, in bytes.

        Args:
            weight_bytes: stage to the size of its weights.
            precisions: stage to precision.
        """
        return sum(weight_bytes.values())

    @abstractmethod
    def write(self, plan: StagePlan, directory: Path, progress: tqdm) -> Written:
        """Writes every stage's graphs and weights.

        Args:
            plan: the stages.
            directory: receives the files.
            progress: counts bytes of weights.

        Raises:
            UserError: the checkpoint's values do not fit, or the runtime would refuse a graph.
        """

    @abstractmethod
    def run(self, plan: StagePlan, directory: Path) -> Stages:
        """Opens the written stages on this machine's CPU, to be verified.

        Args:
            plan: the stages.
            directory: holds their files.
        """

    def compile(self, plan: StagePlan, directory: Path, written: Written) -> Compilation:
        """Compiles the verified stages, as far as that is done where a bundle is built.

        Args:
            plan: the stages.
            directory: holds their files, and receives what comes of them.
            written: what `write` returned.

        Raises:
            UserError: a graph cannot be compiled.
        """
        return Compilation()

    def report_lines(self, plan: StagePlan, cache_row: int) -> list[str]:
        """Returns items for the head of `report.md`.

        Args:
            plan: the stages.
            cache_row: bytes of the kv cache for one token.
        """
        return []

    def report_sections(self, plan: StagePlan, directory: Path, peaks: list[Peak]) -> str:
        """Returns Markdown for the end of `report.md`, from the files that were written.

        Args:
            plan: the stages.
            directory: holds their files.
            peaks: the largest float16 values of the sample, see `Stages.peaks`.
        """
        return ""

    def judgement(self, bundle: Bundle) -> str:
        """Returns what a compiler that was asked says of a finished bundle, as Markdown; nothing where none was.

        Raises:
            UserError: it refuses a graph.
        """
        return ""

    def hand_over(self, built: Built) -> str:
        """Does what is left to do on this machine, and returns what the person does next."""
        return f"Next: {built.chat}"

    def phone_graphs(self, bundle: Bundle, target: Target) -> Callable[[Path], list[PhoneMeasure]] | None:
        """Returns what copies a bundle's graphs for a phone into a directory; None where a phone does not run them.

        Args:
            bundle: an opened bundle.
            target: the one it was built for.

        Raises:
            BundleError: a phone would run it if it were built with other options; names them.
        """
        return None


def backend_of(target: Target) -> Backend:
    """Returns the backend of a target."""
    return _backend(target.backend)


def backends() -> list[Backend]:
    """Returns every backend that a target names."""
    return [_backend(name) for name in dict.fromkeys(target.backend for target in TARGETS.values())]


def _backend(name: str) -> Backend:
    found: Backend = import_module(f".{name}.backend", __package__).BACKEND
    return found
