"""What the double's engines refuse while they run: each rule of TensorRT's and CUDA's, broken on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from .module import pretended
from .settings import Settings, Violation
from .small import Desk, Workshop, doubling, ready, same

PROFILES = ({"x": ((1, 4), (2, 4), (8, 4))}, {"x": same(2, 4)})


@pytest.fixture
def double():
    with pretended(Settings("10.16.2")) as double:
        yield double


@pytest.fixture
def desk(double) -> Desk:
    return Desk(double, Workshop(double.trt).plan(doubling(), *PROFILES))


def test_it_runs_when_somebody_waits(desk):
    _, y = ready(desk)
    assert desk.run()
    assert np.isnan(desk.array(y, (2, 4), np.float32)).all()  # nobody has waited yet
    desk.wait()
    assert (desk.array(y, (2, 4), np.float32) == 2).all()


@pytest.mark.parametrize(
    "name, shape, text",
    [
        ("z", (2, 4), "z is no input"),
        ("x", (2,), "has rank 2, not 1"),
        ("x", (2, 5), "Static dimension mismatch"),
        ("x", (9, 4), "satisfyProfile"),
    ],
)
def test_shapes_that_are_refused(desk, name, shape, text):
    assert not desk.context.set_input_shape(name, shape) and text in desk.said


def test_addresses_that_are_refused(desk):
    assert not desk.context.set_tensor_address("z", desk.device()) and "z is no input" in desk.said
    assert not desk.context.set_tensor_address("x", desk.device() + 128) and "not aligned" in desk.said


def test_a_profile_that_there_is_not(desk):
    with pytest.raises(RuntimeError, match="set optimization profile"):
        desk.context.set_optimization_profile_async(2, int(desk.stream))


def test_what_is_not_set_is_said(desk):
    assert not desk.run() and "Not all shapes are specified" in desk.said
    assert desk.context.infer_shapes() == ["x"]
    desk.context.set_input_shape("x", (2, 4))
    assert not desk.run() and "Address is not set for input tensor x" in desk.said
    desk.bind(x=desk.device())
    assert not desk.run() and "Neither address or allocator is set for output tensor y" in desk.said
    desk.bind(y=desk.device())
    assert desk.run()
    desk.wait()


def test_another_profile_forgets_the_shapes(desk):
    ready(desk)
    assert desk.run()
    desk.wait()
    desk.context.set_optimization_profile_async(1, int(desk.stream))
    assert not desk.run() and "Not all shapes are specified" in desk.said
    assert not desk.context.set_input_shape("x", (3, 4)) and desk.context.set_input_shape("x", (2, 4))
    assert desk.run()
    desk.wait()


@pytest.mark.parametrize("strategy", ("STATIC", "USER_MANAGED"))
def test_memory_of_a_context(double, strategy):
    desk = Desk(double, Workshop(double.trt).plan(doubling(), *PROFILES), strategy)
    ready(desk)
    if strategy == "USER_MANAGED":
        size = desk.engine.get_device_memory_size_for_profile_v2(0)
        assert not desk.run() and "0 bytes of device memory" in desk.said
        desk.context.set_device_memory(desk.device(size) + 256, size)
        assert "512 byte boundary" in desk.said and not desk.run()
        desk.context.set_device_memory(desk.device(size), size - 1)
        assert not desk.run()
        block = desk.device(size)
        desk.context.set_device_memory(block, size)
    assert desk.run()
    desk.wait()
    if strategy == "USER_MANAGED":
        desk.bind(y=block)
        with pytest.raises(Violation, match="y lies in the memory of the context"):
            desk.run()


def test_outputs_that_overlap(desk):
    x, _ = ready(desk)
    desk.bind(y=x)
    with pytest.raises(Violation, match="output y overlaps x"):
        desk.run()


def test_memory_that_is_too_small_freed_or_none(desk):
    x, y = ready(desk)
    for wrong, text in ((desk.device(16), "reach over the end"), (256, "no address"), (desk.pinned(), "pinned memory")):
        desk.bind(y=wrong)
        with pytest.raises(Violation, match=text):
            desk.run()
    desk.bind(y=y)
    desk.cuda.cudaFree(y)
    with pytest.raises(Violation, match="was freed"):
        desk.run()


def test_contexts_that_share_memory_do_not_run_at_once(double):
    desk = Desk(double, Workshop(double.trt).plan(doubling(), *PROFILES), "USER_MANAGED")
    block = desk.device(1 << 20)
    desk.context.set_device_memory(block, 1 << 20)
    ready(desk)
    assert desk.run()
    desk.stream = desk.cuda.cudaStreamCreateWithFlags(1)[1]
    with pytest.raises(Violation, match="share memory"):
        desk.run()


def test_plans_of_elsewhere():
    with pretended(Settings("10.3.0")) as double:
        plan = Workshop(double.trt).plan(doubling(2))
    for settings, text in (
        (Settings("10.7.0"), "expecting library version 10.7.0 got 10.3.0"),
        (Settings("10.3.0", (8, 6)), "expecting compute 8.6 got compute 8.7"),
    ):
        with pretended(settings) as double:
            shop = Workshop(double.trt)
            assert double.trt.Runtime(shop.log).deserialize_cuda_engine(plan) is None and text in shop.said
    with pretended(Settings("10.3.0")) as double:
        shop = Workshop(double.trt)
        for broken in (plan[:50], plan[:-9], b""):
            assert double.trt.Runtime(shop.log).deserialize_cuda_engine(broken) is None
        assert "magicTag" in shop.said


def test_pinned_memory_holds_nothing_until_it_is_waited_for(desk):
    cuda, kinds = desk.cuda, desk.cuda.cudaMemcpyKind
    device, pinned = desk.device(16), desk.pinned(16)
    desk.array(device, (4,), np.float32)[...] = 5
    desk.array(pinned, (4,), np.float32)[...] = 1
    cuda.cudaMemcpyAsync(pinned, device, 16, kinds.cudaMemcpyDeviceToHost, desk.stream)
    assert np.isnan(desk.array(pinned, (4,), np.float32)).all()
    desk.wait()
    assert (desk.array(pinned, (4,), np.float32) == 5).all()
    cuda.cudaMemcpyAsync(device, pinned, 16, kinds.cudaMemcpyHostToDevice, desk.stream)
    desk.array(pinned, (4,), np.float32)[...] = 7  # too early: this is what arrives
    desk.wait()
    assert (desk.array(device, (4,), np.float32) == 7).all()


def test_an_event_waits_for_what_is_before_it(desk):
    cuda, kinds = desk.cuda, desk.cuda.cudaMemcpyKind
    device, first, second = desk.device(16), desk.pinned(16), desk.pinned(16)
    desk.array(device, (4,), np.float32)[...] = 5
    event = cuda.cudaEventCreateWithFlags(0)[1]
    cuda.cudaMemcpyAsync(first, device, 16, kinds.cudaMemcpyDeviceToHost, desk.stream)
    cuda.cudaEventRecord(event, desk.stream)
    cuda.cudaMemcpyAsync(second, device, 16, kinds.cudaMemcpyDeviceToHost, desk.stream)
    cuda.cudaEventSynchronize(event)
    assert (desk.array(first, (4,), np.float32) == 5).all() and np.isnan(desk.array(second, (4,), np.float32)).all()


def test_nothing_is_freed_or_destroyed_while_work_is_pending(desk):
    _, y = ready(desk)
    assert desk.run()
    with pytest.raises(Violation, match="freed while work is pending"):
        desk.cuda.cudaFree(y)
    with pytest.raises(Violation, match="destroyed while work is pending"):
        desk.cuda.cudaStreamDestroy(desk.stream)


def test_copies_between_the_wrong_kinds_of_memory(desk):
    kinds = desk.cuda.cudaMemcpyKind
    with pytest.raises(Violation, match="device memory, pinned memory was wanted"):
        desk.cuda.cudaMemcpyAsync(desk.device(), desk.device(), 4, kinds.cudaMemcpyHostToDevice, desk.stream)
    wrong = desk.cuda.cudaMemcpy2DAsync(desk.device(), 8, desk.device(), 4, 8, 1, 3, desk.stream)
    assert wrong == (desk.cuda.cudaError_t.cudaErrorInvalidValue,)
