"""What NVIDIA's builder would make of forms that no build writes yet: the counts of docs/nvidia.md, on the demo model.

python -m tests.engines.test_smaller_decoders DIR        the same of a bundle's last decoder graph, as a table
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.judge import counts
from mobilevlm.engines.stages import onnx_file, weights_file
from mobilevlm.engines.tensorrt.listing import Count
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from mobilevlm.engines.tensorrt.rtx import judge
from mobilevlm.jetson.modules import MODULES
from mobilevlm.jetson.roofline import Hardware
from tests.conftest import DEMO, build_here, needs_rtx

pytestmark = needs_rtx
BLOCK = 128
HEAD = "lm_head.weight"


def int8_cache(graph: onnx.GraphProto) -> None:
    """The past in int8, with a scale, where it is float16."""
    for value in [one for one in graph.input if one.name.startswith("past_key_values")]:
        value.type.tensor_type.elem_type = TensorProto.INT8
        _decoded(graph, value.name, np.array(0.05, np.float16))


def int8_head(graph: onnx.GraphProto) -> None:
    """The head in int8, with a scale for each token."""
    rows, columns = _drop_head(graph)
    codes = np.random.default_rng(0).integers(-127, 127, (rows, columns), np.int8)
    graph.initializer.append(numpy_helper.from_array(codes, HEAD))
    _decoded(graph, HEAD, np.full(columns, 0.01, np.float16), axis=1)


def int4_head(graph: onnx.GraphProto) -> None:
    """The head like the other weights, in blocks of int4."""
    rows, columns = _drop_head(graph)
    pairs = np.random.default_rng(0).integers(0, 255, rows * columns // 2, np.uint8)
    graph.initializer.append(helper.make_tensor(HEAD, TensorProto.INT4, (rows, columns), pairs.tobytes(), raw=True))
    _decoded(graph, HEAD, np.full((rows // BLOCK, columns), 0.01, np.float16), axis=0, block_size=BLOCK)


def _drop_head(graph: onnx.GraphProto) -> tuple[int, int]:
    head = next(tensor for tensor in graph.initializer if tensor.name == HEAD)
    sizes = tuple(head.dims)
    graph.initializer.remove(head)
    return sizes


def _decoded(graph: onnx.GraphProto, name: str, scale: np.ndarray, **options: int) -> None:
    """Let readers of codes read what they stand for."""
    graph.initializer.append(numpy_helper.from_array(scale, f"{name}.step"))
    for node in graph.node:
        for place, read in enumerate(node.input):
            node.input[place] = f"{name}.decoded" if read == name else read
    node = helper.make_node(
        "DequantizeLinear", [name, f"{name}.step"], [f"{name}.decoded"], f"{name}.decode", **options
    )
    graph.node.insert(0, node)


FORMS: dict[str, tuple[Callable[[onnx.GraphProto], None], ...]] = {
    "as it is": (),
    "int8 cache": (int8_cache,),
    "int8 cache, int4 head": (int8_cache, int4_head),
    "int8 cache, int8 head": (int8_cache, int8_head),
}


def token(bundle: Bundle, form: str, folder: Path) -> list[Count]:
    """What a token of a form amounts to, in each of the decoder's graphs."""
    found = []
    for part in bundle.manifest.parts:
        model = onnx.load(str(bundle.path(onnx_file(part))), load_external_data=False)
        has_head = any(tensor.name == HEAD for tensor in model.graph.initializer)
        for change in FORMS[form]:
            if has_head or change is int8_cache:
                change(model.graph)
        (folder / weights_file(part)).symlink_to(bundle.path(weights_file(part)).resolve())
        onnx.save(model, folder / onnx_file(part))
        judged = judge(folder / onnx_file(part), bundle_profiles(bundle, part))
        assert judged.problems == []
        found.append(counts(bundle, part, judged)[-1])
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, Count]:
    root = tmp_path_factory.mktemp("smaller")
    bundle = Bundle.open(build_here("--model", DEMO, "--target", "cuda", precision="int4", out=root / "bundle"))
    made = {}
    for number, form in enumerate(FORMS):
        (root / str(number)).mkdir()
        (made[form],) = token(bundle, form, root / str(number))
    made["cache"] = prod((2, 6, bundle.manifest.max_context, bundle.config.hidden_size))
    return made


def test_attention_reads_an_int8_cache_in_one_kernel(found):
    now, small = found["as it is"], found["int8 cache"]
    assert (small.kernels, small.attention, small.cache_copies) == (now.kernels, now.attention, 0)
    assert now.moved - small.moved == pytest.approx(found["cache"], rel=0.02)  # a byte of two for each element


def test_an_int4_head_is_a_product_like_the_rest_and_an_int8_head_is_not(found):
    cache, four, eight = (found[form] for form in list(FORMS)[1:])
    assert four.kernels == cache.kernels and set(four.products) == {"Int4"} and four.moved < cache.moved
    assert eight.kernels == cache.kernels + 1 and eight.moved > cache.moved  # decoded into memory first


if __name__ == "__main__":
    opened, board = Bundle.open(sys.argv[1], compiling=True), Hardware(MODULES["orin-nano-8-super"])
    for name in FORMS:
        with TemporaryDirectory() as scratch:
            pieces = token(opened, name, Path(scratch))
        launches, moved = sum(one.kernels for one in pieces), sum(one.moved for one in pieces)
        tokens_per_s = 1e3 / board.limit(moved, {}, launches).ms
        print(f"| {name} | {launches} | {moved / 1e6:,.0f} | {tokens_per_s:.1f} |", flush=True)
