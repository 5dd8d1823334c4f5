"""Graphs of codes: against the float graph they come from, against ONNX Runtime's own quantiser, and by their form."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize
from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config, qnn_preprocess_model

from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.engines import stages
from mobilevlm.engines.qnn.compile import compile_group
from mobilevlm.engines.qnn.socs import find_soc
from mobilevlm.export.backends.qnn.qdq import MOVES
from mobilevlm.export.backends.qnn.quantize_stage import OPSET, quantized_model
from mobilevlm.export.lowerings import qnn as qnn_lowering
from mobilevlm.export.precisions import precision
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.vision import write_vision
from mobilevlm.export.verification.tensor_ranges import Ranges
from mobilevlm.model.model import expected_shapes
from tests.export.test_architectures import CASES, MODEL

OLDEST, NEWEST = "888", "8elite"
VISIONS = {
    name: change
    for name, change in CASES.items()
    if change.get("vision", MODEL) is not None and ("vision" in change or any(key.startswith("mm_") for key in change))
}


def snr(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(np.square(wanted).sum() / np.square(got - wanted).sum()))


def opened(path) -> ort.InferenceSession:
    """As it is written: ONNX Runtime would compute coded weights otherwise."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path, pixel_values: np.ndarray) -> np.ndarray:
    return opened(path).run(None, {stages.PIXEL_VALUES: pixel_values})[0]


def pictures(config, count: int) -> list[np.ndarray]:
    generator, size = np.random.default_rng(3), config.vision.image_size
    return [generator.standard_normal((1, 3, size, size), np.float32) for _ in range(count)]


def write(config, name: str, directory) -> onnx.ModelProto:
    tensors = {key: one.float() for key, one in random_tensors(expected_shapes(config), seed=2).items()}
    with Graph(name, tensors, precision(name), directory / f"{name}.weights", opset=OPSET) as graph:
        write_vision(graph, config, qnn_lowering)
        graph.save(directory / f"{name}.onnx")
    return onnx.load(str(directory / f"{name}.onnx"), load_external_data=False)


def coded(config, directory):
    """The coded vision stage of a model with random weights, as a file."""
    write(config, "a16w8", directory)
    ranges = Ranges(directory / "a16w8.onnx")
    for pixel_values in pictures(config, 3):
        ranges.run({stages.PIXEL_VALUES: pixel_values})
    path = directory / "vision.onnx"
    path.write_bytes(quantized_model(directory / "a16w8.onnx", ranges, {}).SerializeToString())
    return path


@pytest.mark.parametrize("name", VISIONS)
def test_every_projector_and_tower_is_coded_and_taken_whole_by_the_npu(name, tmp_path):
    config = replace(MODEL, **VISIONS[name])
    path = coded(config, tmp_path)
    write(config, "fp32", tmp_path)
    pixel_values = pictures(config, 4)[3]  # one that calibration did not see
    assert snr(run(path, pixel_values), run(tmp_path / "fp32.onnx", pixel_values)) > 35
    for soc in (OLDEST, NEWEST):
        (one,) = compile_group([path], find_soc(soc))
        assert one.nodes == one.npu_nodes > 100


def test_it_is_as_close_as_onnx_runtimes_own_quantiser(tmp_path):
    """The same forms by another hand: 16-bit values, 8-bit weights for each output."""
    path = coded(MODEL, tmp_path)
    write(MODEL, "fp32", tmp_path)
    plain = tmp_path / "fp32.onnx"
    prepared = tmp_path / "prepared.onnx"
    source = prepared if qnn_preprocess_model(plain, prepared) else plain

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.feeds = iter([{stages.PIXEL_VALUES: one} for one in pictures(MODEL, 3)])

        def get_next(self):
            return next(self.feeds, None)

    settings = get_qnn_qdq_config(
        source, Reader(), activation_type=QuantType.QUInt16, weight_type=QuantType.QInt8, per_channel=True
    )
    quantize(source, tmp_path / "theirs.onnx", settings)
    pixel_values = pictures(MODEL, 4)[3]
    wanted = run(plain, pixel_values)
    assert snr(run(path, pixel_values), wanted) > snr(run(tmp_path / "theirs.onnx", pixel_values), wanted) - 1


def test_everything_flows_in_codes(tmp_path):
    """Every operator reads what a DequantizeLinear gives and its result is coded at once; what moves keeps its form."""
    model = onnx.load(str(coded(MODEL, tmp_path)), load_external_data=False)
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {one.name: one for one in model.graph.initializer}
    readers = {name: node for node in model.graph.node for name in node.input}
    operators = [node for node in model.graph.node if "Linear" not in node.op_type]
    assert len(operators) > 60

    def form(node) -> tuple:
        step, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        return float(step), int(zero), zero.dtype

    for node in operators:
        for name in node.input:
            whole = name in constants and constants[name].data_type == TensorProto.INT64
            assert whole or made[name].op_type == "DequantizeLinear", (node.name, name)
        after = readers[node.output[0]]
        assert after.op_type == "QuantizeLinear" and form(after)[2] == np.uint16
        if node.op_type in MOVES:
            assert form(after) == form(made[node.input[0]])
    assert any(
        numpy_helper.to_array(constants[node.input[2]]).dtype == np.uint16
        for node in made.values()
        if node.op_type == "QuantizeLinear"
    )


def test_ranges_are_those_of_every_tensor(tmp_path):
    """Against the graph with all of its tensors as outputs."""
    model = write(MODEL, "a16w8", tmp_path)
    feeds = [{stages.PIXEL_VALUES: one} for one in pictures(MODEL, 2)]
    ranges = Ranges(tmp_path / "a16w8.onnx")
    for feed in feeds:
        ranges.run(feed)
    found = ranges.found()
    names = [name for name in found if name != stages.PIXEL_VALUES]
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    (tmp_path / "all.onnx").write_bytes(model.SerializeToString())
    session = opened(tmp_path / "all.onnx")
    seen = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]
    assert len(names) > 60
    for name in names:
        wanted = min(one[name].min() for one in seen), max(one[name].max() for one in seen)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5)
