"""Reads linear layers back from the ONNX files of a build, as their operators' documentation defines them, in numpy.

A second implementation of what `precisions/` writes: it knows operators, not precisions, so that a layer whose
quantised values, scales, offsets or file are wrong reads back as other weights than the checkpoint has.
Operators: https://onnx.ai/onnx/operators/ and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mobilevlm.engines.stages import onnx_file

SUFFIXES = (".codes", ".weight")
ROWS = 64  # of a matrix in int4, read at a time
# End of a constant's name in a quantised graph, which has one for each operator that reads it.
USE = re.compile(r"\.\d+$")
INT4 = (TensorProto.INT4, TensorProto.UINT4)
INT8, NIBBLES = np.dtype(np.int8), np.dtype(np.uint8)  # int4 is stored two to a byte

# Of 24 bits, of float16's vectors, and of results in 16 bits: a few steps' squares.
FLOAT32_NOISE, FLOAT16_NOISE, WORD_NOISE = 1e-10, 1e-6, 1e-5


@dataclass(frozen=True)
class Written:
    """Record of what a backend has written.

    Attributes:
        sources: stage to the tensors its graphs were written from: the checkpoint's, equalised where the graphs' are.
        graphs: stage to the names of its graphs; of several forms over the same weights, one.
        arithmetic_noise: what a layer's own arithmetic adds beside the rounding of its product's weights and rows,
            relative to its signal: sums of floats, and results in fewer bits.
        result_bits: of every operator's result, over the range it was seen to have; 0 where results are floats.
        written_from: stage to the one whose written weights are its source.
        report: Markdown for the end of `report.md`: what writing them found.
    """

    sources: dict[str, Mapping[str, torch.Tensor]]
    graphs: dict[str, list[str]]
    arithmetic_noise: float = FLOAT32_NOISE
    result_bits: int = 0
    written_from: dict[str, str] = field(default_factory=dict)
    report: str = ""

    def opened(self, stage: str, directory: Path) -> dict[str, WrittenGraph]:
        """Opens a stage's graphs.

        Args:
            stage: its name.
            directory: holds the files.

        Returns:
            File name to graph.
        """
        files = [onnx_file(name) for name in self.graphs[stage]]
        return {name: WrittenGraph(directory / name) for name in files}


@dataclass(frozen=True)
class WrittenLinear:
    """A linear layer, or several side by side, as a graph computes it.

    Attributes:
        name: its checkpoint name without `.weight`; of several, the first's.
        weight: (K, N) float32.
        step: the quantisation step of each weight, broadcastable to (K, N); zeros where weights are floats.
        stored: type of the stored values.
        activation: how the operator rounds what it reads: `float`; `row`, to int8 with a scale for each row; `block`,
            to int8 with a scale for each `block` values; `tensor`, to int8 with the scale `activation_step`.
        block: weights of a column that share a scale, 0 where all do.
        activation_step: the scale of `tensor`, 0 for other roundings.
    """

    name: str
    weight: np.ndarray
    step: np.ndarray
    stored: np.dtype
    activation: str = "float"
    block: int = 0
    activation_step: float = 0.0


class WrittenGraph:
    """One ONNX file whose initializers are read when they are asked for.

    Args:
        path: the file, its external data beside it.
    """

    def __init__(self, path: Path):
        graph = onnx.load(str(path), load_external_data=False).graph
        self._directory = path.parent
        self._initializers = {tensor.name: tensor for tensor in graph.initializer}
        self._makers = {out: node for node in graph.node for out in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._linears = {name: node for node in graph.node if (name := self._layer_of(node))}
        stored = [node for node in graph.node if node.op_type == "DequantizeLinear" and USE.search(node.input[0])]
        self._quantized = {USE.sub("", node.input[0]): node for node in stored if node.input[0] in self._initializers}

    @property
    def linears(self) -> list[str]:
        """Names of the linear layers, in the order they run."""
        return list(self._linears)

    @property
    def quantized(self) -> list[str]:
        """Names of the tensors that belong to no linear layer and are stored quantised."""
        return [name for name in self.others if name in self._quantized]

    @property
    def others(self) -> list[str]:
        """Names of the tensors that belong to no linear layer."""
        names = [*self._initializers, *self._quantized]
        return [name for name in names if name.rpartition(".")[0] not in self._linears or ".bias" in name]

    def is_read(self, name: str) -> bool:
        """Whether something is computed from a tensor that belongs to no linear layer."""
        stored = self._quantized[name].input[0] if name in self._quantized else name
        return any(
            node.op_type != "DequantizeLinear" or node.output[0] in self._readers
            for node in self._readers.get(stored, [])
        )

    def other(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads a tensor of no linear layer: its value, a float one in its own type, and its scales or zeros."""
        if name not in self._quantized:
            return self.array(name), np.zeros((), np.float32)
        value, step, _, _ = self._value(self._quantized[name].output[0])
        return value, step

    def array(self, name: str) -> np.ndarray:
        """Reads an initializer; int4 as int8 values."""
        tensor = self._initializers[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)
        where = {entry.key: entry.value for entry in tensor.external_data}
        path, offset = self._directory / where["location"], int(where.get("offset", 0))
        shape = tuple(tensor.dims)
        if tensor.data_type in INT4:
            half = np.fromfile(path, np.uint8, -(-prod(shape) // 2), offset=offset)
            values = np.stack([half & 15, half >> 4], -1).reshape(-1)[: prod(shape)].astype(np.int8)
            values = values - 16 * (values > 7) if tensor.data_type == TensorProto.INT4 else values
            return values.astype(np.int8).reshape(shape)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.fromfile(path, dtype, prod(shape), offset=offset).reshape(shape)

    def linear(self, name: str) -> WrittenLinear:
        """Reads a linear layer."""
        node = self._linears[name]
        if node.op_type == "MatMulIntegerToFloat":
            return self._integer(name, node)
        if node.op_type == "MatMulNBits":
            return self._blocks(name, node)
        return self._floats(name, node)

    def block_sizes(self, name: str) -> dict[str, int]:
        """Returns the attributes of a layer's `MatMulNBits`, by name."""
        return {attribute.name: attribute.i for attribute in self._linears[name].attribute}

    def is_external(self, name: str) -> bool:
        """Whether an initializer lies in the file of weights, not in the graph."""
        return self._initializers[name].data_location == TensorProto.EXTERNAL

    def offset(self, name: str) -> int:
        """Returns where an initializer begins in the file of weights, in bytes."""
        return int({entry.key: entry.value for entry in self._initializers[name].external_data}["offset"])

    def _layer_of(self, node: NodeProto) -> str:
        """Name of the layer that a node is the product of; empty for other nodes."""
        if node.op_type not in ("MatMul", "MatMulIntegerToFloat", "MatMulNBits"):
            return ""
        source = node.input[1]
        while source not in self._initializers:
            maker = self._makers.get(source)
            if maker is None or maker.op_type not in ("Cast", "DequantizeLinear", "Transpose"):
                return ""
            source = maker.input[0]
        return next((source.removesuffix(one) for one in SUFFIXES if source.endswith(one)), "")

    def _integer(self, name: str, node: NodeProto) -> WrittenLinear:
        values, scales = self.array(node.input[1]).astype(np.float32), self.array(node.input[3])
        if len(node.input) > 5 and node.input[5]:
            values -= self.array(node.input[5]).astype(np.float32)
        return WrittenLinear(name, values * scales, np.broadcast_to(scales, values.shape), INT8, "row")

    def _blocks(self, name: str, node: NodeProto) -> WrittenLinear:
        sizes = self.block_sizes(name)
        rows, columns, block = sizes["N"], sizes["K"], sizes["block_size"]
        half, scales = self.array(node.input[1]), self.array(node.input[2]).reshape(rows, -1, 1)
        points = np.full(scales.shape, 8, np.float32)
        if len(node.input) > 3 and node.input[3]:
            packed = self.array(node.input[3]).reshape(rows, -1)
            unpacked = np.stack([packed & 15, packed >> 4], -1).reshape(rows, -1, 1)
            points = unpacked[:, : scales.shape[1]].astype(np.float32)
        weight = np.empty((columns, rows), np.float32)
        for start in range(0, rows, ROWS):  # while they are in a core's cache
            part = slice(start, start + ROWS)
            values = np.stack([half[part] & 15, half[part] >> 4], -1).reshape(len(half[part]), -1, block)
            values = (values.astype(np.float32) - points[part]) * scales[part]
            weight[:, part] = values.reshape(len(values), -1)[:, :columns].T
        step = np.repeat(scales[..., 0], block, axis=1)[:, :columns]
        activation = "block" if sizes.get("accuracy_level") == 4 else "float"
        return WrittenLinear(name, weight, step.T, half.dtype, activation, block)

    def _floats(self, name: str, node: NodeProto) -> WrittenLinear:
        weight, step, stored, block = self._value(node.input[1])
        after = f"{name}.scales"
        # A weight's scales may come behind the product.
        if any(reader.op_type == "Mul" and after in reader.input for reader in self._readers.get(node.output[0], [])):
            scales = self.array(after).astype(np.float32)
            weight, step = weight * scales, step * scales
        maker = self._makers.get(node.input[0])
        if maker is None or maker.op_type != "DequantizeLinear":
            return WrittenLinear(name, weight, step, stored, block=block)
        scale = float(self.array(maker.input[1]).reshape(-1)[0])
        quantize = self._makers[maker.input[0]]
        divided = self._makers.get(quantize.input[0])
        if divided is not None and divided.op_type == "Div":  # by each row's largest value
            return WrittenLinear(name, weight, step, stored, "row", block)
        return WrittenLinear(name, weight, step, stored, "tensor", block, scale)

    def _value(self, name: str) -> tuple[np.ndarray, np.ndarray, np.dtype, int]:
        """A (K, N) weight or another tensor, its scales, stored type and block, through what stands before its use."""
        if name in self._initializers:
            value = self.array(name)
            return value.astype(np.float32), np.zeros((1, 1), np.float32), value.dtype, 0
        maker = self._makers[name]
        if maker.op_type == "Cast":
            return self._value(maker.input[0])
        if maker.op_type == "Transpose":
            weight, step, stored, block = self._value(maker.input[0])
            return weight.T, step.T, stored, block
        attributes = {attribute.name: attribute.i for attribute in maker.attribute}
        axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
        values, *others = (self.array(one).astype(np.float32) for one in maker.input if one)
        if block:
            others = [np.repeat(one, block, axis=axis)[tuple(map(slice, values.shape))] for one in others]
        else:
            along = [1 if one != axis else -1 for one in range(values.ndim)]
            others = [one.reshape(along) if one.size > 1 else one for one in others]
        scales, values = others[0], values - others[1] if others[1:] else values
        stored = NIBBLES if self._initializers[maker.input[0]].data_type in INT4 else INT8
        return values * scales, np.broadcast_to(scales, values.shape), stored, block
