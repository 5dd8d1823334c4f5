"""Everything a build decides and checks before it reads a weight: a mistake costs a second, not ten minutes."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from mobilevlm.checkpoint.checkpoint import Checkpoint, check_tensors
from mobilevlm.engines.atomic_dir import check_output
from mobilevlm.engines.machine import require_memory
from mobilevlm.engines.qnn.socs import Soc
from mobilevlm.engines.stages import DECODER, PREFILL, VISION, decoder_parts
from mobilevlm.engines.targets import TARGETS, TENSORRT, Target, has_int8_cache
from mobilevlm.errors import UserError, user_path
from mobilevlm.model.model import expected_shapes

from .calibration.conversations import DEFAULT, MOST_CONVERSATIONS, Conversations, read_conversations
from .precisions import precision
from .verification.verify import rows_needed

# Of weights in one context binary: an NPU maps no more than some 3.5 GB of it.
BINARY_BYTES = 3_200_000_000
SMALL_FILES_BYTES = 10_000_000  # golden sample, tokenizer, graphs, report


@dataclass(frozen=True)
class BuildPlan:
    """One build, fully decided.

    Attributes:
        checkpoint: what to build from.
        target: for which device.
        precisions: stage to precision, for the stages this model has.
        max_context: rows of the kv cache.
        out: the bundle's directory.
        command: the command line that builds it again.
        weight_bytes: stage to bytes its weights will take on disk.
        overwrite: whether a bundle at `out` may be replaced.
        calibration: conversations that the decoder's weights are chosen on, and that show how large the values of an
            int8 kv cache get; None where there is neither.
        choose_weights: whether weights are chosen: random ones are not.
        soc: what graphs are compiled for; None where they are not, or not here.
        parts: pieces that the decoder is cut into and the layers of each; only of targets that cut it.
    """

    checkpoint: Checkpoint
    target: Target
    precisions: dict[str, str]
    max_context: int
    out: Path
    command: str
    weight_bytes: dict[str, int]
    overwrite: bool
    calibration: Conversations | None
    choose_weights: bool
    soc: Soc | None
    parts: dict[str, range]


def make_plan(
    checkpoint: Checkpoint,
    source: list[str],
    target: str,
    precisions: dict[str, str],
    max_context: int | None,
    out: str | None,
    overwrite: bool,
    calibration: Path | None,
    soc: Soc | None = None,
    blocks: int | None = None,
) -> BuildPlan:
    """Decide a build.

    Args:
        checkpoint: the opened model.
        source: the command line's words that name it.
        target: a name in `TARGETS`.
        precisions: a precision for every stage of the target.
        max_context: rows of the kv cache; None for the target's own number, or all positions the model knows.
        out: the bundle's directory, None for one under `artifacts/`.
        overwrite: whether a bundle there may be replaced.
        calibration: the file of conversations; None for weights that are random.
        soc: what to compile for, where the target is compiled.
        blocks: pieces of a decoder for TensorRT; None for the target's own number.

    Raises:
        UserError: the weights do not fit the configuration, the output exists, or disk or memory are too small.
    """
    row = TARGETS[target]
    context = _context(checkpoint, max_context, row.default_context)
    if checkpoint.config.vision is None:
        precisions = {stage: name for stage, name in precisions.items() if stage != VISION}
    directory = user_path(out) if out else default_out(checkpoint, target, precisions, soc)
    check_output(directory, overwrite)
    shapes = expected_shapes(checkpoint.config)
    check_tensors(checkpoint.tensors, shapes, checkpoint.name)
    weight_bytes = _weight_bytes(shapes, {stage: row.module(name) for stage, name in precisions.items()})
    parts = cut(checkpoint.config.num_hidden_layers, row, blocks, weight_bytes[DECODER])
    _check_disk(directory, precisions, _needed_bytes(weight_bytes, precisions, soc))
    if row.backend != TENSORRT:  # whose float16 weights are cast one by one
        require_memory(weight_bytes, precisions)
    options = ["--target", target, "--precision", ",".join(f"{stage}={name}" for stage, name in precisions.items())]
    if max_context:
        options += ["--max-context", str(max_context)]
    if row.backend == "qnn":
        options += ["--soc", soc.name] if soc else ["--no-compile"]
    if blocks:
        options += ["--blocks", str(blocks)]
    conversations = None
    needed = has_int8_cache(precisions) or any(map(row.fixes_ranges, precisions.values()))
    if needed or calibration and any(row.calibrates(*item) for item in precisions.items()):
        # One shows how large random weights' values get.
        conversations = read_conversations(calibration or DEFAULT, MOST_CONVERSATIONS if calibration else 1)
        options += ["--calibration", str(calibration)] if calibration not in (None, DEFAULT) else []
    words = ["python", "export/build_engines.py", *source, *options, "--out", str(directory), "--overwrite"]
    return BuildPlan(
        checkpoint,
        row,
        precisions,
        context,
        directory,
        shlex.join(words),
        weight_bytes,
        overwrite,
        conversations,
        calibration is not None,
        soc,
        parts,
    )


def cut(layers: int, row: Target, blocks: int | None, decoder_bytes: int) -> dict[str, range]:
    """A decoder's pieces by name, and the layers of each; none for a target that takes it whole.

    Raises:
        UserError: `blocks`, which somebody asked for, are none or more than there are layers.
    """
    if row.backend == "qnn":
        return decoder_parts(layers, -(-decoder_bytes // BINARY_BYTES))
    if row.backend != TENSORRT:
        return {}
    blocks = -(-layers // (row.engine_layers or layers)) if blocks is None else blocks
    if not 1 <= blocks <= layers:
        raise UserError(f"--blocks {blocks}: this model's decoder has {layers} layers, cut it into 1 to {layers}")
    return decoder_parts(layers, blocks)


def default_out(checkpoint: Checkpoint, target: str, precisions: dict[str, str], soc: Soc | None) -> Path:
    """`artifacts/NAME-TARGET`, behind it the system and, where they are not the target's own, the precisions."""
    own = TARGETS[target].default_precision
    if checkpoint.config.vision is None:
        own = {stage: name for stage, name in own.items() if stage != VISION}
    names = list(precisions.values())
    chosen = [] if precisions == own else names if len(set(names)) > 1 else names[:1]
    system = [soc.name] if soc else []
    return Path("artifacts") / "-".join([checkpoint.name, target, *system, *chosen])


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


def _weight_bytes(shapes: dict[str, tuple[int, ...]], modules: dict[str, str]) -> dict[str, int]:
    sizes = dict.fromkeys(modules, 0.0)
    for name, shape in shapes.items():
        vision = name.startswith(("model.vision_tower.", "model.mm_projector."))
        if name == "model.embed_tokens.weight":
            sizes[DECODER] += prod(shape) * np.dtype(precision(modules[DECODER]).TABLE_DTYPE).itemsize
            continue
        for stage in (VISION,) if vision else (DECODER, PREFILL):
            if stage in modules:
                sizes[stage] += prod(shape) * precision(modules[stage]).BYTES
    return {stage: int(size) for stage, size in sizes.items()}


def _needed_bytes(weight_bytes: dict[str, int], precisions: dict[str, str], soc: Soc | None) -> int:
    """Disk space of a build when it is at its largest."""
    if "a16w8" in precisions.values():  # graphs, a binary of each, and for a while exact weights to compare with
        copies = 1 if soc is None else 2 if soc.shares_weights else 3
        return copies * sum(weight_bytes.values()) + 4 * max(weight_bytes.values())
    return sum(weight_bytes.values())


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
