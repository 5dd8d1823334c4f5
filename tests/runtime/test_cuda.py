"""Memory, streams, events and graphs on the double: where things lie, that they are given back, and what errors say."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mobilevlm.engines.tensorrt import cuda_device
from mobilevlm.engines.tensorrt.cuda_device import CudaError, call
from mobilevlm.errors import UserError
from mobilevlm.runtime.tensorrt.cuda import ALIGNMENT, DeviceMemory, Event, Layout, PinnedMemory, Stream, aligned
from tests.tensorrt_double.bundles import machine


@pytest.fixture
def double():
    with machine() as double:
        yield double


def test_a_layout_is_aligned_and_nothing_overlaps():
    layout, sizes = Layout(), {"a": 1, "b": 512, "c": 513, "d": 0, "e": 7}
    for name, size in sizes.items():
        assert layout.add(name, size) == layout.offsets[name]
    offsets = list(layout.offsets.values())
    assert all(offset % ALIGNMENT == 0 for offset in offsets)
    assert all(b - a >= size for a, b, size in zip(offsets, [*offsets[1:], layout.size], sizes.values(), strict=True))
    assert (aligned(0), aligned(1), aligned(512), aligned(513, 256)) == (0, 512, 512, 768)


def test_there_and_back(double):
    stream, done = Stream(), Event()
    pinned, back, device = PinnedMemory(64), PinnedMemory(32), DeviceMemory(64, stream)
    numbers = pinned.array(0, (8,), np.float32)
    numbers[...] = np.arange(8)
    stream.to_device(device.address, pinned.address, 32)
    stream.copy_rows(device.address + 32, 16, device.address, 8, 8, 2)  # pairs, twice as far apart
    stream.to_host(back.address, device.address + 32, 32)
    done.record(stream)
    done.wait()
    assert back.array(0, (8,), np.float32).tolist() == [0, 1, 0, 0, 2, 3, 0, 0]
    with pytest.raises(ValueError, match="reach over the end of 64"):
        pinned.array(32, (9,), np.float32)
    for thing in (pinned, back, device, done, stream):
        thing.close()
        thing.close()
    assert double.driver.memory.used == 0 and list(double.driver.objects) == [0]


def test_a_graph_does_it_again(double):
    stream, first, second = Stream(), Event(), Event()
    pinned, device = PinnedMemory(8), DeviceMemory(8, stream)
    values = pinned.array(0, (2,), np.float32)

    def work() -> None:
        stream.to_device(device.address, pinned.address, 4)
        stream.to_host(pinned.address + 4, device.address, 4)

    graph = stream.capture(work)
    assert values.tolist() == [0, 0]
    for number in (3, 4):
        values[0] = number
        first.record(stream)
        graph.launch(stream)
        second.record(stream)
        stream.synchronize()
        assert values.tolist() == [number, number]
        assert second.milliseconds_since(first) >= 0
    graph.close()
    graph.close()


def test_a_capture_that_fails_leaves_the_stream_usable(double):
    stream = Stream()
    with pytest.raises(CudaError, match="cudaErrorStreamCaptureUnsupported"):
        stream.capture(stream.synchronize)
    with pytest.raises(ZeroDivisionError):
        stream.capture(lambda: 1 / 0)
    stream.synchronize()
    stream.close()
    assert list(double.driver.objects) == [0]


def test_errors_are_sentences(double):
    double.driver.memory.capacity = 100
    with pytest.raises(CudaError, match="cudaMalloc failed.*memory is full.*restart the board") as error:
        call("cudaMalloc", 101)
    assert error.value.name == "cudaErrorMemoryAllocation"
    with pytest.raises(CudaError, match="cudaErrorInvalidValue.*dmesg"):
        call("cudaFree", 12345)


def test_what_the_machine_is(double, tmp_path, monkeypatch):
    assert cuda_device.compute_capability() == "8.7" and cuda_device.is_integrated()
    assert cuda_device.memory_bytes() == (8 << 30, 8 << 30)
    monkeypatch.setattr(cuda_device, "TEGRA_FILE", tmp_path / "nv_tegra_release")
    assert cuda_device.system_release() == ""
    line = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
    (tmp_path / "nv_tegra_release").write_text(line)
    assert cuda_device.system_release() == "R36.4.3"


def test_without_bindings_it_says_what_to_install(monkeypatch):
    cuda_device.bindings.cache_clear()
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="pip install 'cuda-python>=13' on JetPack 7"):
        cuda_device.bindings()
