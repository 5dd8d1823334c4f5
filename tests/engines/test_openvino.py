"""OpenVINO on graphs of `int8_amx` against ONNX Runtime on the same files; and what it says when it cannot."""

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from mobilevlm.engines import machine, stages
from mobilevlm.engines.ort import openvino
from mobilevlm.engines.ort.openvino import OpenVinoGraph, SharedModels
from mobilevlm.errors import UserError
from mobilevlm.export.precisions import int8_amx
from mobilevlm.export.split.graph import Graph
from mobilevlm.export.split.int8_error import Magnitudes
from mobilevlm.pages import Pages
from mobilevlm.runtime.bench.profile import operator_times
from tests.conftest import DEMO, build_here

WIDTH, OUT = 512, 384


def values(seed: int = 0) -> np.ndarray:
    """Rows, of which one is a hundred times the others, and one nothing."""
    x = np.random.default_rng(seed).standard_normal((1, 37, WIDTH)).astype(np.float32)
    x[0, 3] *= 100
    x[0, 8] = 0
    return x


def write(directory: Path, seen: Magnitudes | None, name: str = "one", seed: int = 1, after: str = "Identity") -> Path:
    """A linear layer with a bias, its input as large as `seen` says."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {"layer.weight": torch.randn(OUT, WIDTH, generator=draw), "layer.bias": torch.randn(OUT, generator=draw)}
    with Graph(name, tensors, int8_amx, directory / f"{name}.weights", magnitudes=lambda name: seen) as graph:
        graph.input("x", TensorProto.FLOAT, [1, "rows", WIDTH])
        graph.op(after, graph.linear("x", "layer"), out="y")
        graph.output("y", TensorProto.FLOAT, [1, "rows", OUT])
        graph.save(directory / f"{name}.onnx")
    return directory / f"{name}.onnx"


def magnitudes(x: np.ndarray) -> Magnitudes:
    seen = Magnitudes()
    seen.add(torch.from_numpy(x))
    return seen


@pytest.mark.parametrize("shared", [None, SharedModels()], ids=["a graph of its own", "weights as inputs"])
@pytest.mark.parametrize("ranges", ["known", "of each row"])
def test_it_computes_what_onnx_runtime_does(shared, ranges, tmp_path):
    """Integer products are exact on both; several lengths through one compiled graph."""
    path = write(tmp_path, magnitudes(values()[:, 10:]) if ranges == "known" else None)
    graph = OpenVinoGraph(path, shared, in_float32=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for seed, rows in ((0, slice(None)), (1, slice(5)), (2, slice(8, 9))):
        x = values(seed)[:, rows]
        (got,), (expected,) = graph.run(["y"], {"x": x}), session.run(["y"], {"x": x})
        # Where a value lies between two codes, division and product may be rounded to different ones.
        assert np.abs(got - expected).max() < 2e-3 * np.abs(expected).max()
        assert np.abs(got - expected).mean() < 1e-4 * np.abs(expected).mean() + 1e-5


def test_values_that_one_range_does_not_fit_have_one_for_each_row(tmp_path):
    x = values()
    graphs = {}
    for name, shown in (("fits", x[:, 10:]), ("does not", x * np.linspace(1, 40, WIDTH, dtype=np.float32) ** 2)):
        (tmp_path / name).mkdir()
        path = write(tmp_path / name, magnitudes(shown))
        graphs[name] = b"ReduceMax" in path.read_bytes()
    assert graphs == {"fits": False, "does not": True}


def test_graphs_that_differ_in_weights_alone_are_compiled_once(tmp_path):
    """Two of them in turns, the second on what the first returned, beside one with another operator: all are right."""
    shared = SharedModels()
    paths = [write(tmp_path, None, f"layer.{seed}", seed) for seed in range(2)]
    paths.append(write(tmp_path, None, "other", 2, after="Neg"))
    graphs = [OpenVinoGraph(path, shared, in_float32=True) for path in paths]
    sessions = [ort.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in paths]
    assert len(shared._requests) == 2
    for _ in range(3):
        got = expected = values()
        for graph, session in zip(graphs, sessions, strict=True):
            (got,), (expected,) = graph.run(["y"], {"x": widened(got)}), session.run(["y"], {"x": widened(expected)})
            assert np.abs(got - expected).mean() < 0.01 * np.abs(expected).mean()


def widened(rows: np.ndarray) -> np.ndarray:
    """As many columns as the layer reads."""
    return np.pad(rows, [(0, 0), (0, 0), (0, WIDTH - rows.shape[-1])])


def test_mapped_weights_are_read_from_their_file(tmp_path):
    """They are in memory after a run, as pages of the file that can be let go, and what is in the file counts."""
    path = write(tmp_path, None)
    mapped = OpenVinoGraph(path, SharedModels(), in_float32=True)
    pages = Pages((tmp_path / "one.weights").resolve())
    assert pages.size >= WIDTH * OUT
    before = mapped.run(["y"], {"x": values()})[0].copy()
    pages.release()
    (again,) = mapped.run(["y"], {"x": values()})
    np.testing.assert_array_equal(again, before)
    with (tmp_path / "one.weights").open("r+b") as file:
        file.write(bytes(WIDTH * OUT))
    (zeros,) = mapped.run(["y"], {"x": values()})
    assert np.ptp(zeros, axis=1).max() == 0  # the bias alone


def test_a_profile_is_of_every_run(tmp_path):
    graph = OpenVinoGraph(write(tmp_path, None), None, True, tmp_path / "profile.json")
    for _ in range(3):
        graph.run(["y"], {"x": values()})
    rows = operator_times([json.loads((tmp_path / "profile.json").read_text())])
    assert {"FullyConnected", "MatMul"} & {re.sub("Quantized|Legacy", "", row.operator) for row in rows}
    assert sum(row.share for row in rows) == pytest.approx(1)


def test_without_it_the_message_names_both_ways_out(tmp_path, monkeypatch):
    path = write(tmp_path, None)
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'mobilevlm\[amx\]'.*--precision vision=int8,prefill=int8"):
        openvino.open_stage(path, stages.VISION, SharedModels())


def test_a_build_says_so_before_it_writes_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"precision int8_amx runs on OpenVINO.*pip install"):
        build_here("--model", DEMO, out=tmp_path / "bundle", precision="vision=int8_amx,decoder=int4")
    assert not list(tmp_path.iterdir())


def test_a_damaged_graph_is_named(tmp_path):
    path = write(tmp_path, None)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"one\.onnx.*Build the bundle again"):
        openvino.open_stage(path, stages.VISION, SharedModels())


def test_amx_is_seen_as_pytorch_sees_it():
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("only Linux tells")
    assert machine.has_amx() == torch.cpu._is_amx_tile_supported()
