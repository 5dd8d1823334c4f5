"""Everything a build decides and checks before it reads a weight: a mistake costs a second, not ten minutes."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from mobilevlm.checkpoint.checkpoint import Checkpoint, check_tensors
from mobilevlm.engines.atomic_dir import BUNDLE, Kind, check_output
from mobilevlm.engines.machine import require_memory
from mobilevlm.engines.stages import DECODER, PREFILL, VISION
from mobilevlm.engines.targets import Target
from mobilevlm.errors import UserError, user_path
from mobilevlm.model.model import expected_shapes

from .backends.backend import Backend
from .backends.stage_plan import StagePlan
from .calibration.conversations import DEFAULT, MOST_CONVERSATIONS, Conversations, read_conversations
from .precision_option import default_precision
from .precisions import facts_of
from .precisions.facts import Facts
from .stage_forms import has_int8_cache, stage_forms
from .verification.verify import rows_needed

# Values beyond the largest of one conversation were cut off in SmolVLM-500M's int8 cache: 17.7 dB, and 21.8 with four.
RANDOM_CONVERSATIONS = 4
SMALL_FILES_BYTES = 10_000_000  # golden sample, tokenizer, graphs, report


@dataclass(frozen=True)
class BuildRequest:
    """Request for one build, as a command line makes it.

    Attributes:
        checkpoint: the opened model.
        source: the command line's words that name it.
        target: the device to build for.
        backend: the target's, with the command line's options.
        precisions: a precision for every stage of the target.
        max_context: rows of the kv cache; None for the target's own number, or all positions the model knows.
        out: the bundle's directory, None for one under `artifacts/`.
        overwrite: whether one of its kind there may be replaced.
        calibration: the file of conversations; None for weights that are random.
        kind: of what is made of the stages.
    """

    checkpoint: Checkpoint
    source: Sequence[str]
    target: Target
    backend: Backend
    precisions: Mapping[str, str]
    max_context: int | None = None
    out: str | None = None
    overwrite: bool = False
    calibration: Path | None = None
    kind: Kind = BUNDLE


@dataclass(frozen=True)
class BuildPlan:
    """One build, fully decided.

    Attributes:
        stages: what is written.
        backend: what writes it.
        out: the bundle's directory.
        command: the command line that builds it again.
        overwrite: whether a bundle at `out` may be replaced.
    """

    stages: StagePlan
    backend: Backend
    out: Path
    command: str
    overwrite: bool


def make_plan(request: BuildRequest) -> BuildPlan:
    """Decides a build.

    Raises:
        UserError: the weights do not fit the configuration, the output exists, or disk or memory are too small.
    """
    checkpoint, target, backend = request.checkpoint, request.target, request.backend
    context = _context(checkpoint, request.max_context, target.default_context)
    precisions = _of_model(request.precisions, checkpoint)
    directory = user_path(request.out) if request.out else _default_out(checkpoint, target, precisions, backend.system)
    check_output(directory, request.overwrite, request.kind)
    facts = {stage: facts_of(target.backend, name) for stage, name in precisions.items()}
    shapes = expected_shapes(checkpoint.config)
    check_tensors(checkpoint.tensors, shapes, checkpoint.name)
    weight_bytes = _weight_bytes(shapes, facts)
    parts = backend.cut(checkpoint.config.num_hidden_layers, target, weight_bytes[DECODER])
    _check_disk(directory, precisions, backend.disk_bytes(weight_bytes, precisions))
    require_memory(weight_bytes, stage_forms(target, precisions))  # verification expands float16 weights
    conversations = _conversations(request, facts, has_int8_cache(precisions))
    command = _command(request, precisions, directory, conversations is not None)
    chooses = request.calibration is not None
    stages = StagePlan(checkpoint, target, precisions, context, weight_bytes, parts, conversations, chooses)
    return BuildPlan(stages, backend, directory, command, request.overwrite)


def _of_model(precisions: Mapping[str, str], checkpoint: Checkpoint) -> dict[str, str]:
    """Precisions of the stages that a model has."""
    has_vision = checkpoint.config.vision is not None
    return {stage: name for stage, name in precisions.items() if has_vision or stage != VISION}


def _conversations(request: BuildRequest, facts: Mapping[str, Facts], int8_cache: bool) -> Conversations | None:
    """The calibration data, where a precision or an int8 cache needs any: a few conversations for random weights."""
    file = request.calibration
    needed = int8_cache or any(one.fixes_ranges for one in facts.values())
    if needed or file and any(one.calibrates(stage) for stage, one in facts.items()):
        found = read_conversations(file or DEFAULT, MOST_CONVERSATIONS if file else RANDOM_CONVERSATIONS)
        for skipped in found.skipped:
            print(skipped, file=sys.stderr)
        return found
    return None


def _command(request: BuildRequest, precisions: Mapping[str, str], directory: Path, is_calibrated: bool) -> str:
    """The command line that builds a bundle again, as a clone has it."""
    options = ["--target", request.target.name]
    options += ["--precision", ",".join(f"{stage}={name}" for stage, name in precisions.items())]
    if request.max_context:
        options += ["--max-context", str(request.max_context)]
    options += request.backend.command_words()
    if is_calibrated and request.calibration not in (None, DEFAULT):
        options += ["--calibration", str(request.calibration)]
    words = ["python", "export/build_engines.py", *request.source, *options, "--out", str(directory), "--overwrite"]
    return shlex.join(words)


def _default_out(checkpoint: Checkpoint, target: Target, precisions: dict[str, str], system: str) -> Path:
    """`artifacts/NAME-TARGET`, behind it the system and, where they are not the target's own, the precisions."""
    names = list(precisions.values())
    chosen = names if len(set(names)) > 1 else names[:1]
    if precisions == _of_model(default_precision(target), checkpoint):
        chosen = []
    return Path("artifacts") / "-".join([checkpoint.name, target.name, *([system] if system else []), *chosen])


def _context(checkpoint: Checkpoint, asked: int | None, default: int | None) -> int:
    known, least = checkpoint.config.max_position_embeddings, rows_needed(checkpoint)
    rows = min(known, default or known) if asked is None else asked
    if not least <= rows <= known:
        name = "max_position_embeddings" if asked is None else "--max-context"
        raise UserError(
            f"{name} is {rows}; this model knows positions up to {known}, and a short question (with a picture where "
            f"it takes one) needs {least}"
        )
    return rows


def _weight_bytes(shapes: dict[str, tuple[int, ...]], facts: dict[str, Facts]) -> dict[str, int]:
    sizes = dict.fromkeys(facts, 0.0)
    for name, shape in shapes.items():
        vision = name.startswith(("model.vision_tower.", "model.mm_projector."))
        if name == "model.embed_tokens.weight":
            sizes[DECODER] += prod(shape) * np.dtype(facts[DECODER].table_dtype).itemsize
            continue
        for stage in (VISION,) if vision else (DECODER, PREFILL):
            if stage in facts:
                sizes[stage] += prod(shape) * facts[stage].bytes_per_weight
    return {stage: int(size) for stage, size in sizes.items()}


def _check_disk(directory: Path, precisions: dict[str, str], needed: int) -> None:
    place = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    needed = int(needed * 1.02) + SMALL_FILES_BYTES
    if free < needed:
        smaller = "a smaller --precision"
        if PREFILL in precisions:
            rest = ",".join(f"{stage}={name}" for stage, name in precisions.items() if stage != PREFILL)
            smaller = f"do without a prefill of its own: --precision {rest}"
        raise UserError(
            f"the bundle needs {needed / 1e6:,.0f} MB, {place} has {free / 1e6:,.0f} MB free: make room, choose "
            f"another --out, or {smaller}"
        )
