"""Graphs that round values in operators of their own, read without them: what is left is float32 arithmetic.

Rounding hides what is small beside it: in graphs of int8 values, half of RoPE may be missing and the answer differ by
no more than rounding makes it differ. Without rounding, a graph is PyTorch's on the same weights to float32's own bits.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


def without_rounding(model: onnx.ModelProto) -> None:
    """Let everything that reads rounded values read the values themselves; stored codes stay codes."""
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == QUANTIZE}
    exact = {
        node.output[0]: rounded[node.input[0]]
        for node in model.graph.node
        if node.op_type == DEQUANTIZE and node.input[0] in rounded
    }
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = exact.get(name, name)


def open_unrounded(path: Path) -> ort.InferenceSession:
    """A session of a graph without its rounding, over the weights where they are."""
    model = onnx.load(str(path), load_external_data=False)
    without_rounding(model)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(EXTERNAL_DATA, str(path.parent))
    options.add_session_config_entry("session.disable_prepacking", "1")
    # One layer's weights at a time are in memory as floats, see `stage_runs.open_session`.
    options.enable_mem_pattern = False
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
