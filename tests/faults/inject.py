"""Faults that a build, a disk or a runtime could have, put into one place of the stages that a build wrote."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from mobilevlm.engines.stages import LOGITS, PREFILL, float32_file
from mobilevlm.export.backends.tensorrt.float32_twin import in_float32
from mobilevlm.export.verification.written_weights import INT4, WrittenGraph

NORMS = ("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization")


@dataclass(frozen=True)
class Fault:
    """A fault: what it is called, where it was put, and the stage."""

    kind: str
    place: str
    stage: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.stage}, {self.place}"


class StageFiles:
    """The ONNX file of a graph, and its external data, to be damaged and mended.

    Args:
        path: of the ONNX file.
        stage: whose it is.
    """

    def __init__(self, path: Path, stage: str):
        self.path, self.stage = path, stage
        self.model = onnx.load(str(path), load_external_data=False)
        # What is computed when a bundle opens is in no file.
        stored = [tensor for tensor in self.model.graph.initializer if self._is_stored(tensor)]
        self.tensors = {tensor.name: tensor for tensor in stored}
        self.linears = WrittenGraph(path).linears

    def array(self, name: str) -> np.ndarray:
        """An initializer as it is stored; int4 as bytes."""
        tensor = self.tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor).copy()
        path, offset = self._where(tensor)
        if tensor.data_type in INT4:
            half = np.fromfile(path, np.uint8, -(-prod(tensor.dims) // 2), offset=offset)
            return half.reshape(tensor.dims[0], -1)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return np.fromfile(path, dtype, prod(tensor.dims), offset=offset).reshape(tensor.dims)

    def value(self, name: str) -> np.ndarray:
        """An initializer of floats or of codes as floats."""
        step, zero = self._steps(name)
        return (self.array(name).astype(np.float32) - zero) * step

    def stored(self, name: str, value: np.ndarray) -> np.ndarray:
        """Floats as an initializer stores them."""
        (step, zero), dtype = self._steps(name), self.array(name).dtype
        if dtype.kind == "f":
            return value.astype(dtype)
        return np.clip(np.rint(value / step + zero), np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)

    def _steps(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        if f"{name}.step" not in self.tensors:
            return np.ones(1, np.float32), np.zeros(1, np.float32)
        return self.array(f"{name}.step"), self.array(f"{name}.zero").astype(np.float32)

    @contextmanager
    def changed(self, name: str, value: np.ndarray) -> Iterator[None]:
        """An initializer with other values, while this lasts."""
        tensor, before = self.tensors[name], self.array(name)
        if tensor.data_location != TensorProto.EXTERNAL:
            with self.rewritten(lambda model: _set(model, name, value)):
                yield
            return
        path, offset = self._where(tensor)
        try:
            _write(path, offset, value)
            yield
        finally:
            _write(path, offset, before)

    @contextmanager
    def rewritten(self, change: Callable[[onnx.ModelProto], object]) -> Iterator[None]:
        """The graph with a change, while this lasts."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        change(model)
        written = {self.path: model}
        twin = self.path.with_name(float32_file(self.path.stem))
        if twin.is_file():  # of a graph for TensorRT, which the build makes of it and runs
            written[twin] = in_float32(model)
        before = {path: path.read_bytes() for path in written}
        try:
            for path, one in written.items():
                path.write_bytes(one.SerializeToString())
            yield
        finally:
            for path, content in before.items():
                path.write_bytes(content)

    def _is_stored(self, tensor: TensorProto) -> bool:
        return tensor.data_location != TensorProto.EXTERNAL or self._where(tensor)[0].is_file()

    def _where(self, tensor: TensorProto) -> tuple[Path, int]:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        return self.path.parent / entries["location"], int(entries.get("offset", 0))


def _write(path: Path, offset: int, value: np.ndarray) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.ascontiguousarray(value).tobytes())


def _set(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    tensor = next(one for one in model.graph.initializer if one.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def weight_faults(files: StageFiles, rng: np.random.Generator) -> dict[str, Callable[[], tuple[str, np.ndarray]]]:
    """By kind, what chooses a place and gives an initializer's name and its faulty values."""
    values = [one + end for one in files.linears for end in (".codes", ".weight") if one + end in files.tensors]
    # Weights that are computed from others are right in whatever steps.
    stored = [one.rpartition(".")[0] for one in values]
    scales = [f"{one}.scales" for one in stored if f"{one}.scales" in files.tensors]
    # In graphs of codes, a number is behind the name.
    vectors = [name for name in files.tensors if re.search(r"norm\d?\.weight(\.\d+)?$", name)]
    biases = [name for name in files.tensors if re.search(r"\.bias(\.\d+)?$", name)]
    biases = [name for name in biases if np.abs(files.value(name)).max() > 1e-3]

    def pick(names: list[str]) -> str:
        return names[int(rng.integers(len(names)))]

    def swapped(axis: int) -> tuple[str, np.ndarray]:
        name = pick([one for one in values if files.array(one).ndim > axis])
        value = files.array(name)
        rows = np.moveaxis(value, axis, 0)
        while True:
            one, other = rng.choice(len(rows), 2, replace=False)
            if _are_unlike(rows[one], rows[other]):  # words that are never said have the same row in a head
                break
        rows[[one, other]] = rows[[other, one]]
        return name, value

    def saturated() -> tuple[str, np.ndarray]:
        name = pick(values)
        value = files.array(name)
        column = (
            value[..., int(rng.integers(value.shape[-1]))] if value.ndim == 2 else value[int(rng.integers(len(value)))]
        )
        if value.dtype == np.uint8:  # nibbles of int4: the two extremes
            column[...] = np.where(column & 8, 0xFF, 0x00)
        else:
            most = np.abs(value.astype(np.float32)).max()
            column[...] = np.where(column < 0, -most, most).astype(value.dtype)
        return name, value

    def scaled(factor: float) -> tuple[str, np.ndarray]:
        name = pick([one for one in scales if files.array(one).ndim])
        value = files.array(name)
        value.reshape(-1)[int(rng.integers(value.size))] *= np.float32(factor)
        return name, value

    def same_layers(name: str) -> list[str]:
        kind = re.sub(r"layers\.\d+\.", "layers.*.", name)
        return [one for one in values if one != name and re.sub(r"layers\.\d+\.", "layers.*.", one) == kind]

    def another() -> tuple[str, np.ndarray]:
        name = pick([one for one in values if same_layers(one)])
        return name, files.array(pick(same_layers(name)))

    def vector(names: list[str], number: float) -> tuple[str, np.ndarray]:
        name = pick(names)
        return name, files.stored(name, np.full_like(files.value(name), number))

    found: dict[str, Callable[[], tuple[str, np.ndarray]]] = {}
    if values:
        found |= {"swapped rows": lambda: swapped(0), "a saturated column": saturated}
    if any(map(same_layers, values)):
        found["another layer's weights"] = another
    if any(files.array(one).ndim > 1 for one in values[:1]):
        found["swapped columns"] = lambda: swapped(1)
    if scales:
        found |= {"a scale times two": lambda: scaled(2), "a scale halved": lambda: scaled(0.5)}
    if vectors:
        found["a norm without its gain"] = lambda: vector(vectors, 1)
    if biases:
        found["a bias that is missing"] = lambda: vector(biases, 0)
    return found


def _are_unlike(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype == np.uint8:  # int4 in pairs
        one, other = (np.stack([row & 15, row >> 4]) for row in (one, other))
    return bool(np.corrcoef(one.astype(np.float64).ravel(), other.astype(np.float64).ravel())[0, 1] < 0.5)


def graph_faults(files: StageFiles, rng: np.random.Generator) -> dict[str, Callable[[], tuple[str, Callable]]]:
    """By kind, what chooses a place and gives its name and the change of the graph."""
    nodes = files.model.graph.node

    def pick(wanted: Callable[[NodeProto], bool]) -> int:
        places = [number for number, node in enumerate(nodes) if wanted(node)]
        return places[int(rng.integers(len(places)))]

    def bypass(number: int) -> tuple[str, Callable]:
        name = nodes[number].name

        def change(model: onnx.ModelProto) -> None:
            node = model.graph.node[number]
            identity = helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
            node.CopyFrom(identity)

        return name, change

    decoded = {node.output[0]: node.input[0] for node in nodes if node.op_type == "DequantizeLinear"}

    def constants(node: NodeProto) -> list[str]:
        return [name for one in node.input if (name := decoded.get(one, one)) in files.tensors]

    made = {name: node.op_type for node in nodes for name in node.output}
    unsqueezed = {node.output[0]: made.get(node.input[0]) for node in nodes if node.op_type == "Unsqueeze"}
    # Of a prompt's last layer only the last row is read, which sees all rows: its mask changes nothing.
    ends = files.stage == PREFILL and any(output.name == LOGITS for output in files.model.graph.output)

    def is_sum(node: NodeProto) -> bool:
        is_mask = any(unsqueezed.get(name) == "Where" for name in node.input)
        return node.op_type == "Add" and not constants(node) and not (ends and is_mask)

    def is_bias(node: NodeProto) -> bool:
        return node.op_type == "Add" and any(re.search(r"\.bias(\.\d+)?$", name) for name in constants(node))

    found: dict[str, Callable[[], tuple[str, Callable]]] = {}
    if any(node.op_type in NORMS for node in nodes):
        found["a missing norm"] = lambda: bypass(pick(lambda node: node.op_type in NORMS))
    if any(node.op_type == "QuickGelu" for node in nodes):
        found["a missing activation"] = lambda: bypass(pick(lambda node: node.op_type == "QuickGelu"))
    if any(map(is_sum, nodes)):
        found["a missing residual"] = lambda: bypass(pick(is_sum))
    if any(map(is_bias, nodes)):
        found["a bias that is not added"] = lambda: bypass(pick(is_bias))
    return found


class _StaleRow:
    """Stages whose kv cache keeps an old value in one row of one layer: `caches` and what follows see it.

    Args:
        runs: the stages.
        key: layer and part.
        rng: chooses the row.
    """

    def __init__(self, runs, key: tuple[int, str], rng: np.random.Generator):
        self._runs, self._key, self._rng = runs, key, rng

    def __getattr__(self, name: str):
        return getattr(self._runs, name)

    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        found = dict(self._runs.caches(rows))
        values, row = found[self._key].copy(), int(self._rng.integers(1, rows))
        values[:, :, row] = values[:, :, row - 1]
        return found | {self._key: values}


def stale_row(runs, key: tuple[int, str], rng: np.random.Generator) -> _StaleRow:
    """Stages one of whose cache rows is the one before it."""
    return _StaleRow(runs, key, rng)
