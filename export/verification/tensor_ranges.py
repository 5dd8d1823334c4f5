"""Ranges of a graph's values on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

ENDS = ("ReduceMin", "ReduceMax")
ONE, ALL = "ranges.one", "ranges"


class Ranges:
    """Lowest and highest value of every float tensor of a graph, over all that it is run on.

    Args:
        path: the graph, of floats but for its weights; its external data is beside it.
        names: of the tensors that are looked at; None for every float one.
    """

    def __init__(self, path: Path, names: Sequence[str] | None = None):
        model = onnx.load(str(path), load_external_data=False)
        graph = model.graph
        weights = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        self._wanted = [value.name for value in graph.output]
        inputs = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.FLOAT]
        made = [name for node in graph.node for name in node.output if name and name not in weights]
        self.names, ends = [*inputs, *made] if names is None else list(names), []
        for number, name in enumerate(self.names):
            for op in ENDS:
                ends.append(f"ranges.{number}.{op}")
                graph.node.append(helper.make_node(op, [name], [f"{ends[-1]}.end"], keepdims=0))
                graph.node.append(helper.make_node("Reshape", [f"{ends[-1]}.end", ONE], [ends[-1]]))
        # All in one, so that both ends of a tensor are found before the next is made, and none has to be kept.
        graph.node.append(helper.make_node("Concat", ends, [ALL], axis=0))
        graph.output.append(helper.make_tensor_value_info(ALL, TensorProto.FLOAT, [len(ends)]))
        graph.initializer.append(helper.make_tensor(ONE, TensorProto.INT64, [1], [1]))
        watched = path.with_name(f"{path.stem}.watched.onnx")
        watched.write_bytes(model.SerializeToString())
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Folding would make float32 weights of the quantised ones.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_mem_pattern = False
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # as written: weights are decoded late
        options.enable_cpu_mem_arena = False  # it would keep every decoded weight's memory
        try:
            self._session = ort.InferenceSession(str(watched), options, providers=["CPUExecutionProvider"])
        finally:
            watched.unlink()
        self._low = np.full(len(self.names), np.inf)
        self._high = np.full(len(self.names), -np.inf)

    def run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph, notes its ranges, and returns its outputs by name."""
        *outputs, ends = self._session.run([*self._wanted, ALL], feed)
        low, high = ends.reshape(-1, 2).T
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        return dict(zip(self._wanted, outputs, strict=True))

    def found(self) -> dict[str, tuple[float, float]]:
        """Returns lowest and highest value by tensor."""
        return dict(zip(self.names, zip(self._low.tolist(), self._high.tolist(), strict=True), strict=True))
