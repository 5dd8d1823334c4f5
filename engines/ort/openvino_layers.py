"""Graphs whose weights are inputs: the layers of a decoder have one form then, and share one compiled model.

They share memory for activations, too. Weights are read from their mapped file, slower than from the layout that
OpenVINO copies constants into.
API: https://docs.openvino.ai/2026/api/ie_python_api/api.html
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from .openvino_package import openvino, opset13

FEWEST_BYTES = 256  # of a constant that is a layer's own: smaller ones are shapes and numbers
INT8 = openvino.Type.i8
WIDEST = 2**20  # columns of a matrix, not said exactly


def weights_as_inputs(model: openvino.Model, wanted: Callable[[openvino.Node], bool]) -> dict[int, openvino.Node]:
    """Replaces constants by inputs.

    Args:
        model: changed in place.
        wanted: tells which constants are replaced.

    Returns:
        The constants by the indices of their inputs; their file stays mapped while they live.
    """
    found = {}
    for constant in filter(wanted, [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]):
        out = constant.output(0)
        shape, kind = out.get_partial_shape(), out.get_element_type()
        if kind == INT8:  # for an input of known size OpenVINO would allocate memory, in vain
            shape = openvino.PartialShape([out.shape[0], openvino.Dimension(1, WIDEST)])
        stand_in = opset13.parameter(shape, kind)
        for reader in list(out.get_target_inputs()):
            reader.replace_source_output(stand_in.output(0))
        found[len(model.inputs)] = constant
        model.add_parameters([stand_in])
    model.validate_nodes_and_infer_types()
    return found


def form_of(model: openvino.Model) -> str:
    """Returns a key, equal for graphs of equal operators, inputs, outputs and constants, whatever their names."""
    numbers: dict[str, int] = {}
    digest = hashlib.sha256()
    for node in model.get_ordered_ops():
        numbers[node.get_name()] = len(numbers)
        sources = [each.get_source_output() for each in node.inputs()]
        reads = [(numbers[source.get_node().get_name()], source.get_index()) for source in sources]
        digest.update(json.dumps([node.get_type_name(), node.get_attributes(), reads], default=str).encode())
        if node.get_type_name() == "Constant":
            digest.update(node.data.tobytes())
    ends = [numbers[node.get_name()] for node in (*model.get_parameters(), *model.get_results())]
    return f"{digest.hexdigest()} {ends}"


def is_weight(constant: openvino.Node) -> bool:
    """Tells whether a constant is a layer's own."""
    return constant.get_byte_size() >= FEWEST_BYTES and constant.get_element_type() in (INT8, openvino.Type.f32)


def is_long(constant: openvino.Node) -> bool:
    """Tells whether a constant is an int8 matrix of more columns, which are summed over, than rows.

    With an image's many rows such a matrix is read from its file as fast as from a copy.
    """
    shape = constant.output(0).shape
    return constant.get_element_type() == INT8 and len(shape) == 2 and shape[1] > shape[0]


def in_place(constant: Any) -> openvino.Tensor:
    """Returns a constant's values without a copy, as a writable array, which OpenVINO asks for; nothing writes them."""
    view = constant.data
    values = np.ctypeslib.as_array((ctypes.c_byte * view.nbytes).from_address(view.ctypes.data))
    return openvino.Tensor(values.view(view.dtype).reshape(view.shape), shared_memory=True)
