"""Takes out of a prefill's files what the decoder's hold already: int8 weights that the runtime computes from int4."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto

from mobilevlm.engines.ort.int4_weights import Int4Matrix, write_places
from mobilevlm.engines.stages import DECODER, INT4_PLACES_FILE, onnx_file, weights_file

from ...split.tensor_data import append_external
from ...verification.differences import VerificationError
from ...verification.weight_check import packed_layers
from ...verification.written_weights import WrittenGraph

KINDS = ("codes", "scales", "zero_points")  # of an int4 matrix
COMPUTED = "computed"  # stands for the file of what is not stored; ONNX Runtime is given it under its name


def store_once(directory: Path, parts: list[str], source: Mapping[str, torch.Tensor]) -> None:
    """Takes the int8 weights out of a prefill's graphs, and records where their int4 ones lie.

    A model so small that some of the decoder's lie in its graph keeps both.

    Args:
        directory: of the bundle that is being built.
        parts: names of the prefill's graphs.
        source: the checkpoint's tensors, for their shapes.

    Raises:
        VerificationError: the runtime would compute other weights than these, which were verified.
    """
    decoder = directory / weights_file(DECODER)
    graph = WrittenGraph(directory / onnx_file(DECODER))
    if not all(graph.is_external(f"{name}.{kind}") for name in graph.linears for kind in KINDS):
        return
    int4 = _matrices(graph, source)
    places: dict[str, list[Int4Matrix]] = {}
    for part in parts:
        path, own = directory / onnx_file(part), directory / weights_file(part)
        reader, model = WrittenGraph(path), onnx.load(str(path), load_external_data=False)
        partial = own.with_name(f"{own.name}.partial")
        scales: dict[str, int] = {}
        computed: list[str] = []
        with partial.open("wb") as file:
            for tensor in model.graph.initializer:
                layer, _, kind = tensor.name.rpartition(".")
                if layer in reader.linears and kind == "codes":
                    computed.append(layer)
                    _say_computed(tensor)
                elif kind == "scales" or tensor.data_location == TensorProto.EXTERNAL:
                    value = np.ascontiguousarray(reader.array(tensor.name))
                    offset = append_external(file, own.name, tensor, value)
                    scales |= {layer: offset} if kind == "scales" else {}
        weights = {layer: reader.array(f"{layer}.codes") for layer in computed}
        partial.replace(own)
        places[part] = [Int4Matrix(f"{layer}.codes", **int4[layer], int8_scales=scales[layer]) for layer in computed]
        for layer, place in zip(computed, places[part], strict=True):
            if not np.array_equal(place.as_int8(decoder, own), weights[layer]):
                raise VerificationError(f"{part}, {layer}: int8 weights are not those of the decoder's int4 weights")
        path.write_bytes(model.SerializeToString())
    write_places(directory / INT4_PLACES_FILE, places)


def _matrices(graph: WrittenGraph, source: Mapping[str, torch.Tensor]) -> dict[str, dict[str, int]]:
    """Layer to the fields of an `Int4Matrix` that the decoder's graph knows."""
    found = {}
    for name in graph.linears:
        sizes, start = graph.block_sizes(name), 0
        blocks = -(-sizes["K"] // sizes["block_size"])
        strides = {"codes": blocks * sizes["block_size"] // 2, "scales": 4 * blocks, "zero_points": -(-blocks // 2)}
        offsets = {kind: graph.offset(f"{name}.{kind}") for kind in strides}
        layers = packed_layers(graph, name)
        for layer in layers:
            outputs = source[f"{layer}.weight"].shape[0] if len(layers) > 1 else sizes["N"]
            values, scales, zero_points = (offsets[kind] + start * stride for kind, stride in strides.items())
            found[layer] = {
                "outputs": outputs,
                "inputs": sizes["K"],
                "block": sizes["block_size"],
                "values": values,
                "scales": scales,
                "zero_points": zero_points,
            }
            start += outputs
    return found


def _say_computed(tensor: TensorProto) -> None:
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=COMPUTED)
