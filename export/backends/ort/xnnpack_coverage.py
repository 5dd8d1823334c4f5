"""Coverage of a stage by XNNPACK, told from its file: no Linux wheel of ONNX Runtime has XNNPACK to ask.

Providers are offered the graph as ONNX Runtime's basic optimisations leave it: constants folded, a product and the bias
behind it one `Gemm`. So those are run here, by ONNX Runtime itself, on the graph without its weights, and the rules of
`xnnpack_rules.py` are applied to what comes out.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from onnx import helper

from mobilevlm.engines.stages import onnx_file
from mobilevlm.engines.tables import markdown_lines

from .xnnpack_rules import Operation, Value, reason_to_stay

ROWS = 128  # of a decoder, whose rows are not known beforehand, to count multiply-adds for
TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT,
    "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(uint8)": onnx.TensorProto.UINT8,
    "tensor(int8)": onnx.TensorProto.INT8,
    "tensor(int32)": onnx.TensorProto.INT32,
    "tensor(int64)": onnx.TensorProto.INT64,
}


@dataclass(frozen=True)
class Coverage:
    """Nodes of one operator in a stage that XNNPACK takes, or leaves for one reason.

    Attributes:
        op_type: the operator.
        reason: why they stay on the CPU provider; empty for those that are taken.
        nodes: how many.
        multiply_adds: of all of them in one run.
    """

    op_type: str
    reason: str
    nodes: int
    multiply_adds: int


def render_stages(directory: Path, stages: Iterable[str]) -> str:
    """Returns the coverage of a bundle's stages, as Markdown.

    Args:
        directory: holds their ONNX files.
        stages: their names.
    """
    return render_coverage({stage: coverage(directory / onnx_file(stage)) for stage in stages})


def coverage(path: Path) -> list[Coverage]:
    """Returns the coverage of a stage's ONNX file, most multiply-adds first; its weights are not read."""
    nodes: Counter[tuple[str, str]] = Counter()
    work: defaultdict[tuple[str, str], int] = defaultdict(int)
    for node in _nodes(onnx.load(path, load_external_data=False)):
        key = node.op_type, reason_to_stay(node)
        nodes[key] += 1
        work[key] += multiply_adds(node, ROWS)
    found = [Coverage(op, reason, count, work[op, reason]) for (op, reason), count in nodes.items()]
    return sorted(found, key=lambda one: (-one.multiply_adds, -one.nodes, one.op_type))


def share_taken(found: Iterable[Coverage]) -> float:
    """Part of a stage's multiply-adds that XNNPACK computes."""
    found = list(found)
    return sum(one.multiply_adds for one in found if not one.reason) / sum(one.multiply_adds for one in found)


def render_coverage(stages: Mapping[str, list[Coverage]]) -> str:
    """Returns a table of stages, by name, as Markdown."""
    lines = [
        "",
        "What XNNPACK takes by its source's rules (`export/backends/ort/xnnpack_rules.py`) where ONNX Runtime has it "
        "and a stage is offered to it, which a vision stage of floats is; *not measured* on a phone. Multiply-adds of "
        f"the decoder are those of a prompt of {ROWS} rows:",
        "",
    ]
    rows = []
    for stage, found in stages.items():
        total = sum(one.multiply_adds for one in found)
        taken = sum(one.nodes for one in found if not one.reason)
        rest = sum(one.nodes for one in found) - taken
        rows.append([stage, "all", str(taken), str(rest), "", f"{share_taken(found):.1%} on XNNPACK"])
        for one in found:
            counts = ["", str(one.nodes)] if one.reason else [str(one.nodes), ""]
            share = f"{one.multiply_adds / total:.1%}" if one.multiply_adds else ""
            rows.append([stage, one.op_type, *counts, one.reason, share])
    header = ["stage", "operator", "on XNNPACK", "on the CPU provider", "because", "multiply-adds"]
    lines += markdown_lines(header, rows)
    return "\n".join(lines) + "\n"


def multiply_adds(node: Operation, rows: int) -> int:
    """Returns the multiply-adds of a node in one run: of products and convolutions, all else counts as none.

    Args:
        node: the operator, with the sizes of what it reads.
        rows: stands for sizes that are not known.
    """
    shapes = [[size or rows for size in one.shape] if one else [] for one in node.inputs]
    kind = node.op_type.split(".")[-1]
    if kind in ("MatMul", "MatMulIntegerToFloat", "Gemm"):
        return prod(shapes[0]) * shapes[1][-1]
    if kind == "MatMulNBits":
        return prod(shapes[0]) * node.attributes["N"]
    if kind == "Conv":
        return prod(size or rows for size in node.outputs[0].shape) * prod(shapes[1][1:])
    if kind == "MultiHeadAttention":  # queries by keys, and what comes of it by values
        return 2 * prod(shapes[0]) * shapes[1][1]
    if kind == "GroupQueryAttention":  # rows packed of heads' queries, keys and values, nothing cached before
        heads, kv_heads = node.attributes["num_heads"], node.attributes["kv_num_heads"]
        width = shapes[0][2] * heads // (heads + 2 * kv_heads)
        return 2 * shapes[0][1] ** 2 * width
    return 0


def _nodes(model: onnx.ModelProto) -> Iterator[Operation]:
    """Each node as a provider is shown it."""
    weights = _without_weights(model)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "optimised.onnx"
        _open(model, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, path)
        model = onnx.load(path)
    values = _values(model, weights)
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    for node in model.graph.node:
        outputs = [values[text] for text in node.output if text]
        if all(one.constant for one in outputs):
            continue  # a float16 weight that becomes float32: done once, when the file is opened
        name = f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        attributes = {one.name: _plain(helper.get_attribute_value(one)) for one in node.attribute}
        inputs = [values[text] if text else None for text in node.input]
        yield Operation(name, opset, inputs, attributes, outputs)


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _without_weights(model: onnx.ModelProto) -> set[str]:
    """Make inputs of the weights, which lie in another file; their names."""
    graph, weights, inline = model.graph, set(), []
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
            weights.add(tensor.name)
        else:
            inline.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(inline)
    return weights


def _open(model: onnx.ModelProto, level: ort.GraphOptimizationLevel, saved: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level, options.graph_optimization_level = 3, level
    if saved is not None:
        options.optimized_model_filepath = str(saved)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _values(model: onnx.ModelProto, weights: set[str]) -> dict[str, Value]:
    """Every value by name, its type and sizes as ONNX Runtime infers them, also behind operators of its own."""
    graph = model.graph
    constant = weights | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in constant for name in node.input if name):  # folded, were the weights there
            constant |= set(node.output)
    asked, known = onnx.ModelProto(), {one.name for one in graph.output}
    asked.CopyFrom(model)
    names = [name for node in graph.node for name in node.output if name and name not in known]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _open(asked, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    values = {tensor.name: Value(tensor.data_type, tuple(tensor.dims), True) for tensor in graph.initializer}
    for one in (*session.get_inputs(), *session.get_outputs()):
        shape = tuple(size if isinstance(size, int) else None for size in one.shape)
        values[one.name] = Value(TYPES.get(one.type, onnx.TensorProto.UNDEFINED), shape, one.name in constant)
    return values
