"""A fault in any single place of any stage, in any precision, fails the build; `--slow` injects 200 in each form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.engines import stages
from mobilevlm.engines.targets import TARGETS
from mobilevlm.export.backends.backend import backend_of
from mobilevlm.export.bundle_writer import write_files
from mobilevlm.export.calibration.conversations import DEFAULT as CONVERSATIONS
from mobilevlm.export.plan import BuildRequest, make_plan
from mobilevlm.export.precision_option import parse_precision
from mobilevlm.export.verification.differences import VerificationError
from mobilevlm.export.verification.stage_weights import check_stages
from mobilevlm.export.verification.verify import verify
from tests.conftest import DEMO
from tests.faults.inject import Fault, StageFiles, graph_faults, stale_row, weight_faults

FORMS = {
    "fp32": ("host", "fp32"),
    "fp16": ("host", "fp16"),
    "int8": ("host", "int8"),
    "int8+int4": ("host", "vision=int8,prefill=int8,decoder=int4"),
    "int8_amx": ("host", "vision=int8_amx,prefill=int8_amx,decoder=int4"),
    "snapdragon-cpu": ("snapdragon-cpu", "vision=int8,decoder=int4_symmetric"),
    "orin fp16": ("orin", "fp16"),
    "orin int8": ("orin", "int8"),
    "orin int4": ("orin", "vision=fp16,decoder=int4"),
    "snapdragon": ("snapdragon", "a16w8"),
    "snapdragon int4": ("snapdragon", "decoder=a16w4"),
}
QUICK = ("fp32", "int8+int4", "orin int4")  # in every run, a fault of each kind in each stage
FAULTS = 200  # in each form, of which one in STRUCTURES is of a graph or the kv cache: those run all stages
STRUCTURES = 8


class Build:
    """The stages of a form as a build has written them."""

    def __init__(self, form: str, directory: Path):
        target, precision = FORMS[form]
        self.checkpoint, row = open_checkpoint(str(DEMO)), TARGETS[target]
        precisions = parse_precision(precision, row)
        out = str(directory / "never")
        plan = make_plan(
            BuildRequest(
                self.checkpoint,
                [],
                row,
                backend_of(row),
                precisions,
                max_context=512,
                out=out,
                calibration=CONVERSATIONS,
            )
        )
        self.directory = directory / "stages"
        self.directory.mkdir()
        self._plan, self.written = plan.stages, write_files(plan, self.directory)
        self._backend = plan.backend

    @property
    def _table(self) -> np.ndarray:
        return np.load(self.directory / stages.EMBED_TOKENS_FILE)

    def check_weights(self, stage: str) -> None:
        """The first part of verification, of one stage."""
        written = replace(self.written, sources={stage: self.written.sources[stage]})
        check_stages(self.checkpoint, written, self.directory, self._table, self._plan.max_context)

    def verify(self, wrap: Callable = lambda runs: runs) -> None:
        """All of it."""
        runs = wrap(self._backend.run(self._plan, self.directory))
        written, context = self.written, self._plan.max_context
        verify(self.checkpoint, written, self.directory, runs, self._table, self._plan.modules, context)

    def files(self) -> list[StageFiles]:
        """Of all graphs that are checked."""
        return [
            StageFiles(self.directory / stages.onnx_file(name), stage)
            for stage, names in self.written.graphs.items()
            for name in names
        ]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Callable[[str], Build]:
    kept: dict[str, Build] = {}

    def build(form: str) -> Build:
        if form not in kept:
            kept.clear()  # one at a time
            kept[form] = Build(form, tmp_path_factory.mktemp(form.replace(" ", "-")))
        return kept[form]

    return build


@contextmanager
def damaged(files: StageFiles, kind: str, rng: np.random.Generator) -> Iterator[Fault]:
    """A weight fault while this lasts."""
    name, value = weight_faults(files, rng)[kind]()
    with files.changed(name, value):
        yield Fault(kind, name, files.stage)


def weights_are_caught(build: Build, rng: np.random.Generator, count: int | None) -> int:
    """Inject so many faults, None for one of each kind in each graph; all must be caught."""
    graphs = build.files()
    kinds = [(files, kind) for files in graphs for kind in weight_faults(files, rng)]
    chosen = kinds if count is None else [kinds[number % len(kinds)] for number in range(count)]
    for files, kind in chosen:
        with damaged(files, kind, rng) as fault, pytest.raises(VerificationError):
            build.check_weights(files.stage)
            pytest.fail(f"not caught: {fault}")
    return len(chosen)


def structures_are_caught(build: Build, rng: np.random.Generator, count: int | None) -> int:
    """The same of faults in graphs, and a row of the kv cache that is not written."""
    kinds = [(files, kind) for files in build.files() for kind in graph_faults(files, rng)]
    chosen = kinds if count is None else [kinds[number % len(kinds)] for number in range(count)]
    for files, kind in chosen:
        place, change = graph_faults(files, rng)[kind]()
        # A graph that a runtime refuses to run is no bundle either.
        with files.rewritten(change), pytest.raises((VerificationError, RuntimeError)):
            build.verify()
            pytest.fail(f"not caught: {Fault(kind, place, files.stage)}")
    layers = build.checkpoint.config.num_hidden_layers
    for _ in range(1 if count is None else max(1, count // 4)):
        key = int(rng.integers(layers)), stages.CACHE_PARTS[int(rng.integers(2))]
        with pytest.raises(VerificationError):
            build.verify(lambda runs, key=key: stale_row(runs, key, rng))
            pytest.fail(f"not caught: a stale row of {key}")
    return len(chosen) + 1


@pytest.mark.parametrize("form", QUICK)
def test_a_fault_of_each_kind_fails_the_build(form, built):
    build, rng = built(form), np.random.default_rng(1)
    build.verify()  # nothing is wrong with it
    assert weights_are_caught(build, rng, None) > 10


@pytest.mark.parametrize("form", ["int8+int4"])
def test_a_fault_in_a_graph_fails_the_build(form, built):
    assert structures_are_caught(built(form), np.random.default_rng(2), None) > 3


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_two_hundred_faults_fail_the_build(form, built):
    build, rng = built(form), np.random.default_rng(3)
    build.verify()
    structures = FAULTS // STRUCTURES
    weights_are_caught(build, rng, FAULTS - structures)
    structures_are_caught(build, rng, structures)
