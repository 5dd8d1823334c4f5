"""TensorRT-RTX 1.4, of the generation of TensorRT 10.16: what it makes of the demo model, and of ONNX's `Attention`.

It is fetched once and kept. Without CUDA it builds float graphs alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mobilevlm.engines.stages import VISION
from tests.conftest import DEMO, build_here, needs_rtx
from tests.tensorrt_double.wheels import Unavailable, install

from .judged import environment, judged, numbers, weights_of_disk

pytestmark = [needs_rtx, pytest.mark.slow]
VERSION = "1.4.0.76"
LAYERS = 6
MOST_TOKEN_KERNELS = 60
# Its builder's words where it wants to ask a GPU.
WANTS_CUDA = "IBuilder::buildSerializedNetwork: Error Code 1: Cuda Runtime (In generateForCurrent"
JUDGE = """
import json, sys
from pathlib import Path
from mobilevlm.engines.tensorrt.rtx import judge
found = [judge(Path(path), []) for path in sys.argv[1:]]
print(json.dumps([[one.version, one.problems] for one in found]))
"""


@pytest.fixture(scope="module")
def older(request) -> Path:
    """A folder with it."""
    names = [f"tensorrt-rtx-cu13-{part}=={VERSION}" for part in ("bindings", "libs")]
    try:
        return install(names, request.config.cache.mkdir("tensorrt-rtx") / VERSION)
    except Unavailable as reason:
        pytest.skip(f"TensorRT-RTX {VERSION} cannot be had: {reason}")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo model for a GPU, in a precision."""

    def bundle(precision: str) -> Path:
        out = tmp_path_factory.mktemp("cuda") / precision
        return build_here("--model", DEMO, "--target", "cuda", precision=precision, out=out)

    return bundle


@pytest.mark.parametrize("precision, fused", [("fp32", 0), ("fp16", LAYERS)])
def test_float_graphs_are_built_like_by_the_newer_one(precision, fused, demo, older):
    """Of float32 it has kernels of attention for a token alone."""
    rows, said = judged(demo(precision), site=older)
    assert said == "" and [row["TensorRT-RTX"] for row in rows] == [f"{VERSION}: built"] * 2
    vision, decoder = rows
    assert vision["graph"] == VISION and numbers(vision["attention"]) == [fused]
    assert numbers(decoder["attention"]) == [fused, LAYERS]
    assert (
        numbers(decoder["cache copies"])[1] == 0 and numbers(decoder["kernels: prompt, token"])[1] <= MOST_TOKEN_KERNELS
    )
    assert all(0 < weights_of_disk(row) <= 1.05 for row in rows)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_integer_graphs_are_read_and_a_gpu_is_wanted_to_build_them(precision, demo, older):
    rows, said = judged(demo(precision), site=older)
    assert [row["TensorRT-RTX"] for row in rows] == [f"{VERSION}: refused"] * 2
    for part in (row["graph"] for row in rows):
        assert f"{part} for SM86: {WANTS_CUDA}" in said  # words of the builder: the parser had no complaint


def attention(rows: int, capacity: int) -> onnx.ModelProto:
    """A layer's attention in the operators that ONNX has for it: RoPE, new rows into the cache, all behind a mask."""
    heads, size, half = 16, 128, TensorProto.FLOAT16
    new, cache, table = (1, heads, rows, size), (1, heads, capacity, size), (1, rows, size // 2)
    shapes = {"query": new, "key": new, "value": new, "cos": table, "sin": table, "mask": (1, 1, rows, capacity)}
    shapes |= {"past_key": cache, "past_value": cache}
    inputs = [helper.make_tensor_value_info(name, half, shape) for name, shape in shapes.items()]
    inputs.append(helper.make_tensor_value_info("place", TensorProto.INT64, (1,)))
    outputs = {"mixed": new, "present_key": cache, "present_value": cache}

    def node(kind: str, reads: str, writes: str, **attributes) -> onnx.NodeProto:
        made = helper.make_node(kind, reads.split(), [writes], name=writes)
        made.attribute.extend(helper.make_attribute(*item) for item in attributes.items())
        return made

    nodes = [
        node("RotaryEmbedding", "query cos sin", "turned_query"),
        node("RotaryEmbedding", "key cos sin", "turned_key"),
        node("TensorScatter", "past_key turned_key place", "present_key", axis=-2),
        node("TensorScatter", "past_value value place", "present_value", axis=-2),
        node("Attention", "turned_query present_key present_value mask", "mixed", TRT_decomposable=1),
    ]
    results = [helper.make_tensor_value_info(name, half, shape) for name, shape in outputs.items()]
    graph = helper.make_graph(nodes, "attention", inputs, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def problems(paths: list[Path], site: Path | None) -> tuple[str, list[list[str]]]:
    """Version, and of each graph what the builder has against it."""
    words = [sys.executable, "-c", JUDGE, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, env=environment(site))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return found[0][0], [said for _, said in found]


def test_onnx_attention_of_one_row_over_a_long_cache_is_not_built(older, tmp_path):
    """Why the decoder is not lowered to it: a token is one row, and on this generation the whole build fails.

    The newest builder has no such limit, so that nothing else here would notice.
    """
    cases = ((1, 512), (1, 768), (1, 2048), (2, 2048))
    paths = [tmp_path / f"{rows}-{capacity}.onnx" for rows, capacity in cases]
    for path, case in zip(paths, cases, strict=True):
        onnx.save(attention(*case), path)
    version, said = problems(paths, older)
    assert version == VERSION
    assert [bool(one) for one in said] == [False, True, True, False]
    for one in (said[1], said[2]):
        assert "Myelin" in " ".join(one) and "wrap_attention_op_in_kgen" in " ".join(one)
    version, said = problems(paths, None)
    assert version != VERSION and said == [[]] * len(cases)
