"""Bundles compiled by the double in this process, which saves starting one for each engine."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from mobilevlm.engines import compile as compile_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import TIMING_CACHE_FILE
from mobilevlm.engines.tensorrt import worker as tensorrt_worker
from mobilevlm.engines.tensorrt.builder import EngineBuilder
from mobilevlm.engines.tensorrt.devices import ThisGpu
from mobilevlm.engines.tensorrt.library import RTX, library_of
from mobilevlm.engines.tensorrt.named_gpus import NamedGpus
from mobilevlm.engines.tensorrt.progress import make_progress

from .module import pretended
from .settings import Settings


@contextmanager
def machine(version: str = "10.3.0", **values) -> Iterator[SimpleNamespace]:
    """A pretended machine: `trt`, `driver`, `settings`."""
    with pretended(Settings(version, **values)) as double:
        yield double


def compile_here(directory: Path, capabilities: Sequence[str] = ()) -> Bundle:
    """`engines/compile.py`, whose workers' work is done in this process."""

    def build(directory: Path, part: str, capabilities: Sequence[str]) -> None:
        bundle = Bundle.open(directory, compiling=True)
        is_rtx = library_of(bundle.manifest.target) is RTX
        devices = NamedGpus(capabilities) if is_rtx else ThisGpu(bundle.path(TIMING_CACHE_FILE))
        builder = EngineBuilder(devices, "python engines/compile.py DIR")
        builder.progress = make_progress(builder.trt, part, io.StringIO())
        tensorrt_worker.build_part(bundle, part, builder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_command, "build_apart", build)
        return compile_command.compile_bundle(directory, capabilities)
