"""Strong typing: a value's data type follows from its operator's inputs, nothing is cast, operands have to agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...onnx_wire import FLOAT16, INT8, INT64
from .graph import NAMES, GraphView, Violation, attribute, label, operand
from .operators import Operator


def type_violations(view: GraphView, operators: dict[str, Operator]) -> Iterator[Violation]:
    """Finds unknown operators, operands of wrong or differing types, and outputs of another type than declared.

    Args:
        view: the graph.
        operators: that this version of TensorRT has, by name.
    """
    types = {name: value.type.tensor_type.elem_type for name, value in view.inputs.items()}
    types |= {name: tensor.data_type for name, tensor in view.weights.items()}
    for node in view.nodes:
        known = operators.get(node.op_type) if not node.domain else None
        if known is None:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            yield Violation(
                label(node),
                f"{kind} is no operator of this version of TensorRT that our table knows",
                "write it with others, or add it to engines/tensorrt/rules/operators.py",
            )
            continue
        yield from _operand_violations(node, known, types)
        if types.get(node.input[0]) == FLOAT16 and _sums_squares(view, node):
            yield Violation(
                label(node), "squares are summed in float16, which ends at 255 squared", "cast to float32 and back"
            )
        types |= dict.fromkeys(node.output, _result(node, types))
        if node.op_type == "TopK":
            types |= dict.fromkeys(node.output[1:], INT64)  # where the largest ones were
    for name, value in view.outputs.items():
        declared = value.type.tensor_type.elem_type
        if name in types and types[name] != declared:
            yield Violation(
                f"output {name}",
                f"is declared {_name(declared)} and is {_name(types[name])}",
                "cast it, or declare it so",
            )


def _operand_violations(node: Any, known: Operator, types: dict[str, int | None]) -> Iterator[Violation]:
    kinds = [types.get(name) for name in node.input]
    first = kinds[0] if kinds else None
    if first is not None and first not in known.types:
        allowed = ", ".join(map(_name, known.types))
        yield Violation(label(node), f"{node.input[0]} is {_name(first)}", f"it takes {allowed}: cast it")
    compared = [kind for kind in kinds[: known.alike or None] if kind is not None]
    if len(set(compared)) > 1:
        operands = ", ".join(f"{name} {_name(types[name])}" for name in node.input if types.get(name))
        yield Violation(label(node), f"its operands differ in type: {operands}", "cast one, nothing is cast for you")


def _sums_squares(view: GraphView, node: Any) -> bool:
    """Tells whether a node is a norm, or the mean of squares in one that is written out."""
    if node.op_type == "ReduceMean" and view.maker(node.input[0]) == "Mul":
        return len(set(view.makers[node.input[0]].input)) == 1
    return node.op_type == "LayerNormalization"


def _result(node: Any, types: dict[str, int | None]) -> int | None:
    if node.op_type == "Cast":
        return attribute(node, "to")
    if node.op_type == "Shape":
        return INT64
    if node.op_type == "QuantizeLinear":
        return types.get(operand(node, 2)) or attribute(node, "output_dtype") or INT8
    if node.op_type == "DequantizeLinear":
        return types.get(operand(node, 1))
    return types.get(node.input[0])


def _name(kind: int | None) -> str:
    return NAMES.get(kind or 0, f"type {kind}")
