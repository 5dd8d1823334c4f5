"""int8 products are exact integers on every CPU: by construction, and through this one's kernels.

`bash run.sh test --emulated` does the second on others, for every product of every bundle.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobilevlm.export.precisions.int8 import exact_scales, quantize

MOST = 32767 // 255  # of two neighbouring weights of one sign, times the largest uint8, 16 bits hold


def weights(rows: int, columns: int) -> np.ndarray:
    """Heavy tails, some rows that stand out, a column of zeros and one of its largest weight alone."""
    rng = np.random.default_rng(rows)
    weight = rng.standard_t(3, (rows, columns)) * np.exp(rng.normal(0, 1, (rows, 1)))
    weight[:, 0], weight[:, 1] = 0, 1
    return weight.astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 3, 255, 256, 1001])
def test_no_two_neighbours_saturate(rows):
    weight = weights(rows, 40)
    values, scales = quantize(weight, exact_scales(weight))
    pairs = np.pad(values.astype(int), ((0, rows % 2), (0, 0))).reshape(-1, 2, 40)
    for side in (pairs.clip(min=0), (-pairs).clip(min=0)):
        assert side.sum(1).max() <= MOST
    assert np.abs(values).max() <= 127
    assert np.abs(values * scales - weight).max() <= 0.501 * scales.max()
    limit = (np.abs(values).max(0) > 60) | (np.arange(40) == 0)  # no column gives more away than a bit
    assert limit.all()


def test_the_usual_scales_would_saturate():
    """What this is for: with scales that reach the largest weight alone there are such pairs."""
    values, _ = quantize(weights(1000, 40))
    pairs = values.astype(int).reshape(-1, 2, 40)
    assert max(side.sum(1).max() for side in (pairs.clip(min=0), (-pairs).clip(min=0))) > MOST


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("depth", [3, 64, 1001])
def test_this_cpus_kernel_gives_the_integers(rows, depth):
    weight = weights(depth, 48)
    values, _ = quantize(weight, exact_scales(weight))
    read = np.random.default_rng(0).choice(np.array([1, 128, 200, 254, 255], np.uint8), (rows, depth))
    read[0] = 255
    stored = {"values": values, "one": np.float32(1), "ones": np.ones(48, np.float32), "zero": np.uint8(128)}
    inputs = ["read", "values", "one", "ones", "zero"]
    graph = helper.make_graph(
        [helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft")],
        "product",
        [helper.make_tensor_value_info("read", TensorProto.UINT8, [rows, depth])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 48])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (y,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"read": read})
    np.testing.assert_array_equal(y, (read.astype(np.int64) - 128) @ values.astype(np.int64))
