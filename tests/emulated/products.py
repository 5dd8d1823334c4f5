"""Graphs of nothing but products of uint8 rows and int8 weights, and what exactly comes out of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mobilevlm.engines.ort.int4_weights import read_places
from mobilevlm.engines.stages import DECODER, INT4_PLACES_FILE, weights_file
from mobilevlm.export.precisions import int8
from mobilevlm.export.verification.written_weights import WrittenGraph

ZERO = 128  # the code of zero
ROWS = (1, 2, 5, 64)
SIZES = ((1, 7), (2, 16), (3, 33), (63, 48), (64, 64), (255, 17), (256, 96), (1001, 40))
OPERATOR = "MatMulIntegerToFloat"


def kinds_of_weights(generator: np.random.Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Float32 matrices: usual ones, and what is hardest to add up."""
    sign = generator.choice([-1.0, 1.0], size)
    pairs = -(-size[0] // 2)
    heavy = generator.standard_t(4, size)
    heavy[:, -1] = 0
    return {
        "usual": generator.normal(size=size),
        "heavy": heavy,
        "largest": np.ones(size),
        "lowest": -np.ones(size),
        "signs": sign,
        "one of a pair": np.tile(np.array([[1.0], [0.0]]), (pairs, size[1]))[: size[0]] * sign,
        "half of a pair": np.tile(np.array([[1.0], [0.5]]), (pairs, size[1]))[: size[0]] * sign,
        "opposite": np.tile(np.array([[1.0], [-1.0]]), (pairs, size[1]))[: size[0]],
    }


def own_weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Codes and scales of matrices of many sizes, as precision `int8` has them."""
    generator = np.random.default_rng(3)
    found = {}
    for size in SIZES:
        for kind, weight in kinds_of_weights(generator, size).items():
            weight = weight.astype(np.float32)
            found[f"{kind} {size[0]}x{size[1]}"] = int8.quantize(weight, int8.exact_scales(weight))
    return found


def bundle_weights(directory: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Codes and scales of all products of a bundle's graphs."""
    found = {}
    places = directory / INT4_PLACES_FILE
    computed = read_places(places) if places.is_file() else {}
    for path in sorted(directory.glob("*.onnx")):
        graph = onnx.load(path, load_external_data=path.stem not in computed).graph
        stored = {one.name: one for one in graph.initializer}
        if path.stem in computed:
            written, files = WrittenGraph(path), [directory / weights_file(part) for part in (DECODER, path.stem)]
            for one in computed[path.stem]:
                scales = written.array(one.name.replace(".codes", ".scales"))
                found[f"{path.stem} {one.name}"] = one.as_int8(*files), scales
            continue
        for node in graph.node:
            if node.op_type == OPERATOR:
                codes, scales = (numpy_helper.to_array(stored[node.input[n]]) for n in (1, 3))
                found[f"{path.stem} {node.input[1]}"] = codes, scales
    return found


def write(weights: Mapping[str, tuple[np.ndarray, np.ndarray]], out: Path) -> dict[str, np.ndarray]:
    """Write a graph of products, and rows for it beside it.

    Args:
        weights: name to codes (K, N) and scales (N,).
        out: the ONNX file.

    Returns:
        Name of an output to what it has to be, to the bit.
    """
    generator = np.random.default_rng(5)
    stored = [numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.uint8(ZERO), "zero")]
    nodes, inputs, outputs, fed, wanted = [], [], [], {}, {}
    for number, (name, (codes, scales)) in enumerate(weights.items()):
        own = [f"codes{number}", f"scales{number}"]
        stored += map(numpy_helper.from_array, (codes, scales), own)
        for rows in ROWS:
            x, y = f"x{number}.{rows}", f"{name}, {rows} rows"
            fed[x] = generator.integers(0, 256, (rows, len(codes)), dtype=np.uint8)
            fed[x][0] = 255
            fed[x][1:2] = 0
            fed[x][2:3] = generator.choice([0, 255], len(codes))
            nodes.append(helper.make_node(OPERATOR, [x, own[0], "one", own[1], "zero"], [y], domain="com.microsoft"))
            inputs.append(helper.make_tensor_value_info(x, TensorProto.UINT8, fed[x].shape))
            outputs.append(helper.make_tensor_value_info(y, TensorProto.FLOAT, (rows, codes.shape[1])))
            wanted[y] = exact(fed[x], codes, scales)
    graph = helper.make_graph(nodes, "products", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), out)
    np.savez(out.with_suffix(".npz"), **fed)
    return wanted


def exact(rows: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The product: a sum of integers, which float64 holds all of, then one multiplication in float32."""
    sums = (rows.astype(np.float64) - ZERO) @ codes.astype(np.float64)
    return sums.astype(np.float32) * scales.astype(np.float32)
