"""Codes one stage for an NPU: weights, then ranges, then codes; and again with 16-bit weights where 8 cost too much."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from tqdm import tqdm

from mobilevlm.engines import stages
from mobilevlm.engines.chunks import Run

from ...precisions import a16w16, fp16, precision
from ...split.graph import Graph, no_moments
from ...verification.tensor_ranges import Ranges
from .qdq import Coder
from .sensitivity import Feed, Piece, Sensitivity, block_of, compare

# Of what calibration saw: a picture of another kind goes further, and one bit of sixteen costs nothing.
HEADROOM = 2.0
OPSET = 23  # the first with RMSNormalization
WORST = 0.25  # of a stage's blocks get 16-bit weights at a time


@dataclass(frozen=True)
class Stage:
    """One stage to be coded.

    Attributes:
        name: the stage's.
        precision: of its weights.
        tensors: the weights.
        moments: makes what tells what a linear layer reads, asked in their order, for weights that are chosen.
        pieces: file to what fills its graph, in order.
        calibrate: runs all calibration data through the pieces.
        samples: some of it, to compare with exact weights on.
        byte_steps: of each piece, inputs and outputs that are bytes; see `qdq.Coder`.
        files: of each piece, what its coded graph is saved as, and sizes for its open dimensions.
    """

    name: str
    precision: str
    tensors: Mapping[str, torch.Tensor]
    moments: Callable[[], Callable[[str], torch.Tensor | None]]
    pieces: Mapping[str, Callable[[Graph], None]]
    calibrate: Callable[[Sequence[Run]], None]
    samples: Sequence[Feed]
    byte_steps: Mapping[str, Mapping[str, float]]
    files: Mapping[str, Mapping[str, Mapping[str, int]]]


class _Mixed:
    """A precision with 16-bit weights in some blocks."""

    def __init__(self, usual: str, exact: frozenset[str]):
        self._usual, self._exact = precision(usual), exact

    def linear(self, graph: Graph, x: str, names: tuple[str, ...]) -> str:
        """See `precisions.Precision`."""
        return (a16w16 if block_of(names[0]) in self._exact else self._usual).linear(graph, x, names)


def write_coded(stage: Stage, directory: Path, may_be_exact: bool, progress: tqdm) -> list[Sensitivity]:
    """Write a stage's files into a directory; what its blocks cost.

    Args:
        stage: what to write.
        directory: for its files, and those that are needed on the way.
        may_be_exact: whether blocks can have 16-bit weights.
        progress: counts bytes of weights.
    """
    budget, exact = precision(stage.precision).BUDGET_DB, frozenset()
    wanted = [_write(stage, piece, f"{piece}.exact", fp16, directory, lambda count: None) for piece in stage.pieces]
    while True:
        progress.set_description(f"writing {stage.name} {stage.precision}")
        weights = _Mixed(stage.precision, exact)
        coded = [_write(stage, piece, piece, weights, directory, progress.update) for piece in stage.pieces]
        progress.set_description(f"calibrating {stage.name}")
        ranges = [Ranges(piece.path) for piece in coded]
        stage.calibrate([one.run for one in ranges])
        models = [
            coded_model(piece.path, one, stage.byte_steps[name])
            for name, piece, one in zip(stage.pieces, coded, ranges, strict=True)
        ]
        for piece, model in zip(coded, models, strict=True):
            piece.path.write_bytes(model.SerializeToString())
        found = compare(stage.name, wanted, coded, stage.samples, exact)
        rest = sorted((one for one in found if one.block not in exact), key=lambda one: -one.noise)
        if found[-1].snr_db >= budget or not rest or not may_be_exact:
            break
        worst = [one.block for one in rest[: max(1, int(WORST * len(found)))]]
        names = ", ".join(block.split("model.")[-1] for block in worst)
        tqdm.write(
            f"{stage.name} keeps {found[-1].snr_db:.1f} dB of {budget:.0f}: 16-bit weights for {names}", file=sys.stderr
        )
        exact |= set(worst)
    if found[-1].snr_db < budget:
        tqdm.write(
            f"{stage.name} keeps {found[-1].snr_db:.1f} dB on calibration data, less than its budget of {budget:.0f}: "
            "compare answers (eval/compare.py), or calibrate on data of your own (--calibration)",
            file=sys.stderr,
        )
    for piece, (name, model) in zip(wanted, zip(stage.pieces, models, strict=True), strict=True):
        piece.path.unlink()
        piece.path.with_name(stages.weights_file(f"{name}.exact")).unlink()
        (directory / stages.onnx_file(name)).unlink()
        for graph, sizes in stage.files[name].items():
            save_fixed(model, directory / stages.onnx_file(graph), sizes)
    return found


def _write(stage: Stage, name: str, file: str, weights, directory: Path, on_bytes: Callable[[int], object]) -> Piece:
    path = directory / stages.onnx_file(file)
    external = directory / stages.weights_file(file)
    moments = no_moments if weights is fp16 else stage.moments()
    with Graph(stage.name, stage.tensors, weights, external, on_bytes, moments, opset=OPSET) as graph:
        stage.pieces[name](graph)
        graph.save(path)
        return Piece(path, graph.blocks)


def coded_model(path: Path, ranges: Ranges, byte_steps: Mapping[str, float]) -> onnx.ModelProto:
    """A float graph as one of codes.

    Args:
        path: of the float graph.
        ranges: run on calibration data.
        byte_steps: see `qdq.Coder`.
    """
    model = onnx.load(str(path), load_external_data=False)
    seen = {name: (low * HEADROOM, high * HEADROOM) for name, (low, high) in ranges.found().items()}
    Coder(model, path.parent, seen, byte_steps).run()
    return model


def save_fixed(model: onnx.ModelProto, path: Path, sizes: Mapping[str, int]) -> None:
    """Write a graph with sizes for its open dimensions."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    path.write_bytes(fixed.SerializeToString())
