"""Quantises a float graph: QuantizeLinear and DequantizeLinear around every operator, as an NPU reads it.

Linear layers' weights come quantised (`precisions/a16w8.py`); here everything else is: what flows between operators, in
16 bits over the range that calibration saw (`verification/tensor_ranges.py`); the kv cache, in 8 bits in and out of the
graph; and the constants. Operators that only move values have one scale for what they read and write, so that nothing
is rounded twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MOVES = ("Concat", "Gather", "Reshape", "Slice", "Transpose")
# Known without looking: what was seen may fall short of them.
FIXED_RANGES = {"Softmax": (0.0, 1.0), "Sigmoid": (0.0, 1.0)}
WIDE = ".wide"  # ends the name of a 16-bit tensor that is 8-bit later
SMALLEST_SCALE = 1e-12  # of what is always zero


@dataclass(frozen=True)
class Quantization:
    """Scale and zero point of a tensor: a value is `(quantised - zero_point) * scale`.

    Attributes:
        scale: float32, () or (channels,).
        zero_point: the same shape, in the type of the quantised values.
    """

    scale: np.ndarray
    zero_point: np.ndarray

    @classmethod
    def spanning(cls, low: float, high: float, dtype: type[np.unsignedinteger]) -> Quantization:
        """Spreads all values of an integer type over a range, which is widened to hold zero.

        Args:
            low: lower end.
            high: upper end.
            dtype: of the quantised values.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        largest = np.iinfo(dtype).max
        scale = max((high - low) / largest, SMALLEST_SCALE)
        return cls(np.array(scale, np.float32), np.array(round(-low / scale), dtype))

    def quantize(self, value: np.ndarray) -> np.ndarray:
        """Returns values as they are stored, in the zero point's type."""
        dtype = self.zero_point.dtype
        bounds = np.iinfo(dtype)
        return np.clip(np.rint(value / self.scale) + self.zero_point, bounds.min, bounds.max).astype(dtype)


class Quantizer:
    """Quantises one graph.

    Args:
        model: of floats, but for linear layers' weights; rewritten in place.
        folder: where its external data is.
        ranges: float tensor to its lowest and highest value.
        byte_scales: scales of the inputs and outputs that are 8-bit values with a zero point of 128.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        ranges: Mapping[str, tuple[float, float]],
        byte_scales: Mapping[str, float],
    ):
        graph = model.graph
        self._graph, self._folder, self._ranges, self._byte_scales = graph, folder, ranges, byte_scales
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._weights = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        self._fixed = {node.output[0]: FIXED_RANGES.get(node.op_type) for node in graph.node}
        self._groups = self._find_groups()
        self._quantizations: dict[str, Quantization] = {}
        self._added: dict[str, TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        """Rewrites the graph in place."""
        for value in self._graph.input:
            if value.name in self._byte_scales:
                value.type.tensor_type.elem_type = TensorProto.UINT8
                self._decode(value.name, value.name)
            else:
                self._round(value.name)
        outputs = {value.name: value for value in self._graph.output}
        for node in self._graph.node:
            if node.output[0] in self._weights:
                self._nodes.append(node)
                continue
            self._write(node, outputs)
        for name, value in outputs.items():
            if name in self._byte_scales:
                value.type.tensor_type.elem_type = TensorProto.UINT8
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._constants.values() if tensor.name in read] + list(self._added.values())
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _write(self, node: onnx.NodeProto, outputs: Mapping[str, onnx.ValueInfoProto]) -> None:
        (out,) = node.output
        node.input[:] = [self._read(node, place, name) for place, name in enumerate(node.input)]
        node.output[0] = f"{out}.float"
        self._nodes.append(node)
        in_bytes = out in self._byte_scales
        name = f"{out}{WIDE}" if in_bytes else out  # an operator's own result has 16 bits in any case
        self._quantize(node.output[0], name, f"{name}.codes")
        self._decode(f"{name}.codes", name, name if name in outputs else f"{name}.value")
        if in_bytes:
            self._quantize(f"{name}.value", out, out)
            self._decode(out, out)

    def _read(self, node: onnx.NodeProto, place: int, name: str) -> str:
        """An operator's input, quantised."""
        if name in self._weights or not name:
            return name
        if name not in self._constants:
            return f"{name}.value" if not self._is_float_output(name) else name
        tensor = self._constants[name]
        return name if tensor.data_type != TensorProto.FLOAT else self._constant(node, place, tensor)

    def _is_float_output(self, name: str) -> bool:
        return any(value.name == name and name not in self._byte_scales for value in self._graph.output)

    def _constant(self, node: onnx.NodeProto, place: int, tensor: TensorProto) -> str:
        value, kind = self._value(tensor), node.op_type
        if kind in ("Conv", "LayerNormalization") and place == 2:  # a bias, in the scale of the products it is added to
            weight = self._value(self._constants[node.input[1]])
            scale = self._quantization_of(node.input[0]).scale * _weight_quantization(kind, weight).scale
            how = Quantization(scale.astype(np.float32), np.zeros(scale.shape, np.int32))
        elif kind == "Concat":
            how = self._quantization_of(tensor.name)
        else:
            how = _weight_quantization(kind, value)
        # Channels last, as numpy divides.
        kernel = kind == "Conv" and place == 1
        stored = np.ascontiguousarray(how.quantize(value.T).T) if kernel else how.quantize(value)
        name = f"{tensor.name}.{len(self._nodes)}"
        self._add(name, stored)
        axis = {"axis": 0 if kernel else value.ndim - 1} if how.scale.ndim else {}
        return self._dequantize(name, name, how, f"{name}.value", **axis)

    def _value(self, tensor: TensorProto) -> np.ndarray:
        return numpy_helper.to_array(tensor, str(self._folder))

    def _round(self, name: str) -> None:
        self._quantize(name, name, f"{name}.codes")
        self._decode(f"{name}.codes", name)

    def _quantize(self, source: str, name: str, out: str) -> None:
        inputs = [source, *self._parameters(name, self._quantization_of(name))]
        self._nodes.append(helper.make_node("QuantizeLinear", inputs, [out], name=f"{len(self._nodes)}_code"))

    def _decode(self, source: str, name: str, out: str | None = None) -> None:
        self._dequantize(source, name, self._quantization_of(name), out or f"{name}.value")

    def _dequantize(self, source: str, name: str, how: Quantization, out: str, **attributes: Any) -> str:
        inputs = [source, *self._parameters(name, how)]
        number = len(self._nodes)
        self._nodes.append(helper.make_node("DequantizeLinear", inputs, [out], name=f"{number}_value", **attributes))
        return out

    def _parameters(self, name: str, how: Quantization) -> list[str]:
        names = [f"{name}.step", f"{name}.zero"]
        for stored, value in zip(names, (how.scale, how.zero_point), strict=True):
            self._add(stored, value)
        return names

    def _add(self, name: str, value: np.ndarray) -> None:
        self._added.setdefault(name, numpy_helper.from_array(np.asarray(value), name))

    def _quantization_of(self, name: str) -> Quantization:
        root = self._root(name)
        if root not in self._quantizations:
            self._quantizations[root] = self._decide([one for one in self._groups if self._root(one) == root] or [name])
        return self._quantizations[root]

    def _decide(self, names: list[str]) -> Quantization:
        (first, *_) = names
        if first in self._byte_scales:
            return Quantization(np.array(self._byte_scales[first], np.float32), np.array(128, np.uint8))
        names = [name.removesuffix(WIDE) for name in names]
        seen = [self._fixed.get(name) or self._ranges[name] for name in names if name in self._ranges]
        return Quantization.spanning(min(low for low, _ in seen), max(high for _, high in seen), np.uint16)

    def _find_groups(self) -> dict[str, str]:
        groups: dict[str, str] = {}
        self._groups = groups  # `_root` looks there
        for node in self._graph.node:
            if node.op_type in MOVES:
                read = node.input if node.op_type == "Concat" else node.input[:1]
                out = node.output[0]
                for name in read:
                    one, other = self._root(name), self._root(f"{out}{WIDE}" if out in self._byte_scales else out)
                    groups.setdefault(one, one)
                    groups[other] = one
        return groups

    def _root(self, name: str) -> str:
        while self._groups.get(name, name) != name:
            name = self._groups[name]
        return name


def _weight_quantization(kind: str, value: np.ndarray) -> Quantization:
    """A constant's: 8 bits for each output of a kernel or matrix, 8 of a LayerNormalization's gain, 16 of others."""
    if kind in ("Conv", "MatMul"):
        largest = np.abs(value).reshape(len(value), -1).max(1) if kind == "Conv" else np.abs(value).max(0)
        scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        return Quantization(scales, np.zeros(len(scales), np.int8))
    dtype = np.uint8 if kind == "LayerNormalization" else np.uint16  # of 16 bits some architectures refuse it
    return Quantization.spanning(float(value.min()), float(value.max()), dtype)
