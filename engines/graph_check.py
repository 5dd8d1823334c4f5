"""Checks an ONNX file of a bundle before a library opens it: inputs and outputs, and where its weights lie.

A graph whose tensors claim other sizes than the model's makes a library allocate what it is told, and one that names
files makes it read them; a graph inside a node may run for ever. Values themselves are the business of the sample
(`runtime/self_check.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import onnx_wire as wire
from .json_file import open_regular
from .manifest import FileEntry

LARGEST_GRAPH = 1 << 28  # bytes; weights are in a file of their own
# Fields of the messages that `onnx_wire` has no name for: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
MODEL_FUNCTIONS, NODE_ATTRIBUTE, SPARSE_INITIALIZER = 25, 5, 15
ATTRIBUTE_NAME, ATTRIBUTE_TEXT, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = (
    1,
    4,
    5,
    6,
    10,
    11,
)
TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION, EXTERNAL = 8, 13, 14, 1
ENTRY_KEY, ENTRY_VALUE, TENSOR_SHAPE, SHAPE_DIMENSION, DIMENSION_SIZE = 1, 2, 2, 1, 1
CONTEXT_FILE = "ep_cache_context"  # attribute of an NPU's node: the file with its context binary
LARGEST_OFFSET = 1 << 50

Shape = tuple[int | None, ...]  # None for a size that is not fixed


class GraphError(ValueError):
    """A graph that no build writes; the message says why."""


@dataclass
class Graph:
    """What an ONNX file takes and returns, and where its weights lie.

    Attributes:
        inputs: ONNX's data type and shape of each, by name.
        outputs: the same.
        ranges: file, offset and length of each weight outside the file, by name.
        context_files: that its nodes name.
    """

    inputs: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    outputs: dict[str, tuple[int, Shape]] = field(default_factory=dict)
    ranges: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    context_files: list[str] = field(default_factory=list)


def read_checked(path: Path, files: Mapping[str, FileEntry], computed: frozenset[str] = frozenset()) -> Graph:
    """Reads a graph, and checks that its weights lie in files of the bundle.

    Args:
        path: of the ONNX file.
        files: of the manifest.
        computed: weights that are made when the graph is opened, and lie nowhere.

    Raises:
        GraphError: it is no ONNX file, has graphs inside, or weights outside the bundle's files.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, LARGEST_GRAPH) + 1)  # `read` takes the memory first
    if len(content) > LARGEST_GRAPH:
        raise GraphError(f"it has more than {LARGEST_GRAPH} bytes")
    try:
        graph = _read(memoryview(content))
    except (IndexError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise GraphError(f"it is no ONNX file ({type(error).__name__})") from None
    for name, (place, offset, length) in graph.ranges.items():
        if name in computed:
            continue
        size = files[place]["size"] if place in files else -1
        if size < 0 or not 0 <= offset <= size or not 0 <= length <= size - offset:
            raise GraphError(f"weight {ascii(name)[:80]} lies outside the bundle's files, in {ascii(place)[:80]}")
    if strange := [name for name in graph.context_files if name not in files]:
        raise GraphError(f"it names the file {ascii(strange[0])[:80]}")
    return graph


def require_tensors(graph: Graph, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
    """Compares a graph's inputs and outputs with what the model needs.

    Args:
        graph: as it was read.
        inputs: shapes of all that it is given; None for a size that depends on the call.
        outputs: shapes of those that are asked for.

    Raises:
        GraphError: they differ; says how.
    """
    if strange := graph.inputs.keys() ^ inputs.keys():
        raise GraphError(f"its inputs are {_listed(graph.inputs)}; {_listed(strange)} is too many or missing")
    for found, needed in ((graph.inputs, inputs), (graph.outputs, outputs)):
        for name, shape in needed.items():
            if name not in found:
                raise GraphError(f"it has no output {name}")
            here = found[name][1]
            if len(here) != len(shape) or not all(map(_fits, here, shape)):
                raise GraphError(f"its {name} has shape {_shown(here)}, the model needs {_shown(shape)}")


def _read(model: memoryview) -> Graph:
    graph, found = None, Graph()
    for number, value in wire.fields(model):
        if number == MODEL_FUNCTIONS:
            raise GraphError("it has functions of its own")
        if number == wire.MODEL_GRAPH:
            graph = wire.as_message(value)
    if graph is None:
        raise KeyError("graph")
    for number, value in wire.fields(graph):
        if number in (wire.GRAPH_INPUT, wire.GRAPH_OUTPUT):
            name, tensor = _value(wire.as_message(value))
            (found.inputs if number == wire.GRAPH_INPUT else found.outputs)[name] = tensor
        elif number == wire.GRAPH_INITIALIZER:
            _keep_range(found, wire.as_message(value))
        elif number == wire.GRAPH_NODE:
            for attribute in _all(wire.as_message(value), NODE_ATTRIBUTE):
                _look_at(found, attribute)
        elif number == SPARSE_INITIALIZER:
            raise GraphError("it has sparse weights")
    return found


def _value(info: memoryview) -> tuple[str, tuple[int, Shape]]:
    tensor = dict(wire.fields(wire.submessage(wire.submessage(info, wire.VALUE_TYPE), wire.TYPE_TENSOR)))
    shape: list[int | None] = []
    for dimension in _all(wire.as_message(tensor.get(TENSOR_SHAPE, memoryview(b""))), SHAPE_DIMENSION):
        size = dict(wire.fields(dimension)).get(DIMENSION_SIZE)
        shape.append(None if size is None else wire.as_number(size))
    name = wire.text(dict(wire.fields(info))[wire.VALUE_NAME])
    return name, (wire.as_number(tensor[wire.TENSOR_ELEMENT]), tuple(shape))


def _keep_range(graph: Graph, tensor: memoryview) -> None:
    """Notes where a weight lies, if it lies in another file."""
    values = list(wire.fields(tensor))
    entries = {}
    for number, value in values:
        if number == TENSOR_EXTERNAL:
            pair = dict(wire.fields(wire.as_message(value)))
            entries[wire.text(pair[ENTRY_KEY])] = wire.text(pair[ENTRY_VALUE])
    if not entries and dict(values).get(TENSOR_LOCATION) != EXTERNAL:
        return
    try:
        offset, length = (int(entries.get(key, "0")) for key in ("offset", "length"))
    except ValueError:
        offset = length = LARGEST_OFFSET
    graph.ranges[wire.text(dict(values)[TENSOR_NAME])] = entries.get("location", ""), offset, length


def _look_at(graph: Graph, attribute: memoryview) -> None:
    name = ""
    for number, value in wire.fields(attribute):
        if number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            raise GraphError("it has a graph inside a node")
        if number == ATTRIBUTE_NAME:
            name = wire.text(value)
        elif number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            _keep_range(graph, wire.as_message(value))
        elif number == ATTRIBUTE_TEXT and name == CONTEXT_FILE:
            context = bytes(wire.as_message(value))
            graph.context_files.append(context.decode(errors="replace"))


def _all(message: memoryview, number: int) -> Iterator[memoryview]:
    return (wire.as_message(value) for field, value in wire.fields(message) if field == number)


def _fits(here: int | None, needed: int | None) -> bool:
    return None in (here, needed) or here == needed


def _listed(names: object) -> str:
    shown = sorted(ascii(name)[1:-1][:60] for name in names) if isinstance(names, (dict, set)) else []
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")


def _shown(shape: Shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
