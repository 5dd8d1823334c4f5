"""CUDA graphs on the double: what cannot be captured, and graphs that do not fit any more what they were made of."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from .module import pretended
from .settings import Settings, Violation
from .small import Desk, Workshop, doubling, ready, same

PROFILES = ({"x": ((1, 4), (2, 4), (8, 4))}, {"x": same(2, 4)})


@pytest.fixture
def desk():
    with pretended(Settings()) as double:
        yield Desk(double, Workshop(double.trt).plan(doubling(), *PROFILES))


def capture(desk: Desk):
    mode = desk.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    assert desk.cuda.cudaStreamBeginCapture(desk.stream, mode) == (0,)
    queued = desk.run()
    error, graph = desk.cuda.cudaStreamEndCapture(desk.stream)
    return desk.cuda.cudaGraphInstantiate(graph, 0)[1] if queued and not error else None


def test_a_graph_reads_what_is_there_when_it_is_launched(desk):
    x, y = ready(desk)
    assert desk.run()
    desk.wait()
    graph = capture(desk)
    desk.array(x, (2, 4), np.float32)[...] = 3
    assert desk.cuda.cudaGraphLaunch(graph, desk.stream) == (0,)
    desk.wait()
    assert (desk.array(y, (2, 4), np.float32) == 6).all()


def test_a_capture_needs_a_run_with_the_same_state(desk):
    ready(desk)
    assert capture(desk) is None and "not permitted when stream is capturing" in desk.said
    assert desk.run()
    desk.wait()
    assert capture(desk) is not None
    desk.context.set_input_shape("x", (3, 4))
    assert capture(desk) is None


def test_nothing_is_waited_for_or_allocated_in_a_capture(desk):
    ready(desk)
    assert desk.run()
    desk.wait()
    cuda, mode = desk.cuda, desk.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    for forbidden in (lambda: cuda.cudaStreamSynchronize(desk.stream), lambda: cuda.cudaMalloc(4)):
        cuda.cudaStreamBeginCapture(desk.stream, mode)
        assert forbidden()[0] == cuda.cudaError_t.cudaErrorStreamCaptureUnsupported
        assert cuda.cudaStreamEndCapture(desk.stream)[0] == cuda.cudaError_t.cudaErrorStreamCaptureInvalidated
    assert cuda.cudaStreamBeginCapture(0, mode)[0] == cuda.cudaError_t.cudaErrorStreamCaptureUnsupported


CHANGES = {
    "shape": (lambda desk: desk.context.set_input_shape("x", (3, 4)), "changed after its graph"),
    "address": (lambda desk: desk.bind(y=desk.device()), "changed after its graph"),
    "profile": (lambda desk: desk.context.set_optimization_profile_async(1, int(desk.stream)), "changed after"),
    "context": (lambda desk: delattr(desk, "context"), "the context of a captured graph is gone"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_graph_is_stale_after_a_change(desk, change):
    ready(desk)
    assert desk.run()
    desk.wait()
    graph = capture(desk)
    CHANGES[change][0](desk)
    gc.collect()
    with pytest.raises(Violation, match=CHANGES[change][1]):
        desk.cuda.cudaGraphLaunch(graph, desk.stream)


def test_a_graph_whose_memory_was_freed(desk):
    _, y = ready(desk)
    assert desk.run()
    desk.wait()
    graph = capture(desk)
    desk.cuda.cudaFree(y)
    desk.cuda.cudaGraphLaunch(graph, desk.stream)
    with pytest.raises(Violation, match="was freed"):
        desk.wait()
