"""Quantises one stage for an NPU: weights, ranges, values; and again with 16-bit weights where 8 cost too much."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from tqdm import tqdm

from mobilevlm.commands import command
from mobilevlm.engines import stages
from mobilevlm.engines.chunks import Run

from ...precisions import a16w16, fp16, precision
from ...split.graph import Graph, LinearForm, Moments, no_moments
from ...verification.tensor_ranges import Ranges
from .qdq import Quantizer
from .sensitivity import Feed, Piece, Sensitivity, block_of, compare

# Beyond what calibration saw: an image of another kind goes further, and one bit of sixteen costs nothing.
HEADROOM = 2.0
OPSET = 23  # the first with RMSNormalization
WORST = 0.25  # of a stage's blocks get 16-bit weights at a time


@dataclass(frozen=True)
class Stage:
    """One stage to be quantised.

    Attributes:
        name: the stage's.
        precision: of its weights.
        tensors: the weights.
        moments: makes what tells what a linear layer reads, asked in their order, for weights that are chosen.
        pieces: file to what fills its graph, in order.
        calibrate: runs all calibration data through the pieces.
        samples: some of it, to compare with exact weights on.
        byte_scales: piece to the scales of its inputs and outputs that are bytes; see `qdq.Quantizer`.
        files: piece to the graphs that it is saved as, and the sizes of their open dimensions.
    """

    name: str
    precision: str
    tensors: Mapping[str, torch.Tensor]
    moments: Callable[[], Moments]
    pieces: Mapping[str, Callable[[Graph], None]]
    calibrate: Callable[[Sequence[Run]], None]
    samples: Sequence[Feed]
    byte_scales: Mapping[str, Mapping[str, float]]
    files: Mapping[str, Mapping[str, Mapping[str, int]]]


class _Mixed:
    """A precision with 16-bit weights in some blocks."""

    def __init__(self, usual: str, exact: frozenset[str]):
        self._usual, self._exact = precision(usual), exact

    def linear(self, graph: Graph, x: str, names: tuple[str, ...]) -> str:
        """See `split.graph.LinearForm`."""
        form: LinearForm = a16w16 if block_of(names[0]) in self._exact else self._usual
        return form.linear(graph, x, names)


def write_quantized(stage: Stage, directory: Path, may_be_exact: bool, progress: tqdm) -> list[Sensitivity]:
    """Writes a stage's files into a directory.

    Args:
        stage: what to write.
        directory: for its files, and those that are needed on the way.
        may_be_exact: whether blocks can have 16-bit weights.
        progress: counts bytes of weights.

    Returns:
        What quantising costs in each block.
    """
    budget = precision(stage.precision).FACTS.budget_db
    wanted = [_write(stage, piece, f"{piece}.exact", fp16, directory, lambda count: None) for piece in stage.pieces]
    exact: frozenset[str] = frozenset()
    while True:
        quantized, models = _quantized(stage, exact, directory, progress)
        found = compare(stage.name, wanted, quantized, stage.samples, exact)
        rest = sorted((one for one in found if one.block not in exact), key=lambda one: -one.noise)
        if found[-1].snr_db >= budget or not rest or not may_be_exact:
            break
        worst = [one.block for one in rest[: max(1, int(WORST * len(found)))]]
        names = ", ".join(block.split("model.")[-1] for block in worst)
        _say(f"{stage.name} keeps {found[-1].snr_db:.1f} dB of {budget:.0f}: 16-bit weights for {names}")
        exact |= set(worst)
    if found[-1].snr_db < budget:
        _say(
            f"{stage.name} keeps {found[-1].snr_db:.1f} dB on calibration data, less than its budget of {budget:.0f}: "
            f"compare answers ({command('eval/compare.py')}), or calibrate on data of your own (--calibration)"
        )
    for piece, name, model in zip(wanted, stage.pieces, models, strict=True):
        piece.path.unlink()
        piece.path.with_name(stages.weights_file(f"{name}.exact")).unlink()
        (directory / stages.onnx_file(name)).unlink()
        for graph, sizes in stage.files[name].items():
            save_fixed(model, directory / stages.onnx_file(graph), sizes)
    return found


def _quantized(
    stage: Stage, exact: frozenset[str], directory: Path, progress: tqdm
) -> tuple[list[Piece], list[onnx.ModelProto]]:
    """A stage's graphs, quantised with 16-bit weights in the exact blocks, as files and in memory."""
    progress.set_description(f"writing {stage.name} {stage.precision}")
    weights = _Mixed(stage.precision, exact)
    pieces = [_write(stage, name, name, weights, directory, progress.update) for name in stage.pieces]
    progress.set_description(f"calibrating {stage.name}")
    ranges = [Ranges(piece.path) for piece in pieces]
    stage.calibrate([one.run for one in ranges])
    models = [
        quantized_model(piece.path, one, stage.byte_scales[name])
        for name, piece, one in zip(stage.pieces, pieces, ranges, strict=True)
    ]
    for piece, model in zip(pieces, models, strict=True):
        piece.path.write_bytes(model.SerializeToString())
    return pieces, models


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _write(
    stage: Stage, name: str, file: str, weights: LinearForm, directory: Path, on_bytes: Callable[[int], object]
) -> Piece:
    path = directory / stages.onnx_file(file)
    external = directory / stages.weights_file(file)
    moments = no_moments if weights is fp16 else stage.moments()
    with Graph(stage.name, stage.tensors, weights, external, on_bytes, moments, opset=OPSET) as graph:
        stage.pieces[name](graph)
        graph.save(path)
        return Piece(path, graph.blocks)


def quantized_model(path: Path, ranges: Ranges, byte_scales: Mapping[str, float]) -> onnx.ModelProto:
    """Quantises a float graph.

    Args:
        path: of the float graph.
        ranges: of its values, run on calibration data.
        byte_scales: see `qdq.Quantizer`.
    """
    model = onnx.load(str(path), load_external_data=False)
    seen = {name: (low * HEADROOM, high * HEADROOM) for name, (low, high) in ranges.found().items()}
    Quantizer(model, path.parent, seen, byte_scales).run()
    return model


def save_fixed(model: onnx.ModelProto, path: Path, sizes: Mapping[str, int]) -> None:
    """Writes a graph of fixed sizes.

    Args:
        model: the graph.
        path: the file.
        sizes: of its open dimensions, by name.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    path.write_bytes(fixed.SerializeToString())
