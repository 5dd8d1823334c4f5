"""Cost of quantising, block by block: the float graph and the quantised one compared on the same data.

A block is a layer of CLIP or of the decoder, the projector, or the head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from mobilevlm.engines.stages import HIDDEN_STATES

# Inputs by name, but for hidden states, with a kv cache of a type.
Feed = Callable[[type[np.generic]], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Sensitivity:
    """Cost of quantising one block: the signal to noise left behind it, in dB, and the noise that it adds.

    Attributes:
        stage: the block's.
        block: its name.
        snr_db: of all blocks until here.
        noise: that this one adds, as a part of the signal's power.
        exact: whether it has 16-bit weights.
    """

    stage: str
    block: str
    snr_db: float
    noise: float
    exact: bool


def block_of(layer: str) -> str:
    """Returns the block that a linear layer of a checkpoint belongs to."""
    found = re.match(r".*?layers\.\d+", layer)
    return found[0] if found else "projector" if "mm_projector" in layer else "head"


@dataclass(frozen=True)
class Piece:
    """A graph of a stage: its file, and block to the tensor behind it."""

    path: Path
    blocks: Mapping[str, str]


def compare(
    stage: str, wanted: Sequence[Piece], quantized: Sequence[Piece], feeds: Sequence[Feed], exact: frozenset[str]
) -> list[Sensitivity]:
    """Runs a stage's float graphs and its quantised ones, and compares them behind every block.

    Args:
        stage: for the result.
        wanted: its pieces with exact weights, in order.
        quantized: the same, quantised.
        feeds: what the graphs read, for each sample.
        exact: blocks that have 16-bit weights.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for feed in feeds:
        got = _outputs(quantized, feed(np.uint8))
        for block, value in _outputs(wanted, feed(np.float32)).items():
            signal[block] = signal.get(block, 0.0) + float(np.square(value, dtype=np.float64).sum())
            off = got[block].astype(np.float64) - value
            noise[block] = noise.get(block, 0.0) + float(np.square(off).sum())
    found, before = [], 0.0
    for block, power in signal.items():
        here = noise[block] / power
        snr_db = float(-10 * np.log10(max(here, 1e-20)))
        found.append(Sensitivity(stage, block, snr_db, max(here - before, 0.0), block in exact))
        before = here
    return found


def _outputs(pieces: Sequence[Piece], feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    hidden: dict[str, np.ndarray] = {}
    for piece in pieces:
        session, names = _watched(piece)
        inputs = {one.name for one in session.get_inputs()}
        values = session.run(list(names.values()), {key: one for key, one in (feed | hidden).items() if key in inputs})
        found |= dict(zip(names, values, strict=True))
        hidden = {HIDDEN_STATES: values[-1]}  # behind a piece's last layer; nothing reads it behind the head
    return found


def _watched(piece: Piece) -> tuple[ort.InferenceSession, dict[str, str]]:
    """A session whose outputs are a piece's blocks, and their names in it."""
    model = onnx.load(str(piece.path), load_external_data=False)
    outputs = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    # In a quantised graph a tensor has its name only where it is an output.
    names = {block: name if name in made else f"{name}.value" for block, name in piece.blocks.items()}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names.values() if name not in outputs)
    watched = piece.path.with_name(f"{piece.path.stem}.watched.onnx")
    watched.write_bytes(model.SerializeToString())
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    try:
        return ort.InferenceSession(str(watched), options, providers=["CPUExecutionProvider"]), names
    finally:
        watched.unlink()
