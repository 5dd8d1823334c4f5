"""The process that decodes images for the server: same pixels, sentences, and an end for what takes too long."""

import os
import signal
import time

import numpy as np
import pytest

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.bundle import Bundle
from mobilevlm.image import ImageError, ImageSpec, load_image, preprocess
from mobilevlm.runtime.server import image_process
from mobilevlm.runtime.server.image_process import ImageProcess
from tests.conftest import ROOT

PICTURE = (ROOT / "assets" / "shapes.png").read_bytes()
OTHER = PICTURE + b"\0"  # the same image in another file


@pytest.fixture(scope="module")
def config(demo_fp32) -> ModelConfig:
    return Bundle.open(demo_fp32).config


def test_pixels_are_those_of_this_process(config):
    with ImageProcess(config, 25_000_000) as images:
        expected = preprocess(load_image(PICTURE), ImageSpec.of(config))
        for content in (PICTURE, PICTURE, OTHER):
            np.testing.assert_array_equal(images.read(content), expected)
        with pytest.raises(ImageError, match="no image"):
            images.read(b"no picture")
        np.testing.assert_array_equal(images.read(PICTURE), expected)


def test_slow_image_is_ended_and_the_next_is_read(config):
    """A plain PPM of 9 million pixels takes Pillow some 10 s.

    Public: tracefinity/tracefinity issue 178 (one upload that stops a server).
    """
    slow = b"P3 3000 3000 255\n" + b"1 2 3 " * 9_000_000
    with ImageProcess(config, 25_000_000, seconds=4.0) as images:
        images.read(PICTURE)
        begin = time.perf_counter()
        with pytest.raises(ImageError, match="took more than"):
            images.read(slow)
        assert time.perf_counter() - begin < 8
        images.read(OTHER)


def test_crash_is_an_error_of_this_image_alone(config):
    """The server goes on. Public: vllm-project/vllm pull request 9141, ggml-org/llama.cpp issue 23331."""
    with ImageProcess(config, 25_000_000) as images:
        expected = images.read(PICTURE)
        os.kill(images.pid, signal.SIGKILL)
        with pytest.raises(ImageError, match="to decode"):
            images.read(OTHER)
        np.testing.assert_array_equal(images.read(OTHER), expected)


def test_images_of_earlier_turns_are_not_decoded_again(config, monkeypatch):
    with ImageProcess(config, 25_000_000) as images:
        expected = images.read(PICTURE)
        monkeypatch.setattr(image_process, "KEPT_BYTES", 2 * expected.nbytes)
        first = images.pid
        os.kill(first, signal.SIGKILL)
        np.testing.assert_array_equal(images.read(PICTURE), expected)  # nobody was asked
        with pytest.raises(ImageError, match="to decode"):
            images.read(OTHER)
        for number in range(3):
            images.read(OTHER + bytes([number]))
        os.kill(images.pid, signal.SIGKILL)
        with pytest.raises(ImageError, match="to decode"):
            images.read(PICTURE)  # of which the pixels had to go
