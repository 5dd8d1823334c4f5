"""Frames of a GStreamer pipeline, read by the system's OpenCV: JetPack's is built with GStreamer, PyPI's is not."""

from __future__ import annotations

import re
import time
from collections.abc import Generator

from .frames import ArrayFrame, Frame, SourceError


class GStreamerSource:
    """A pipeline that ends in an `appsink` and gives BGR.

    Args:
        name: the pipeline.

    Raises:
        SourceError: there is no OpenCV, or it has no GStreamer.
    """

    def __init__(self, name: str):
        self.name, self.is_live = name, True
        try:
            import cv2
        except ImportError:
            raise SourceError(
                "a GStreamer pipeline is read by OpenCV, which is not installed: on a Jetson, sudo apt install "
                "python3-opencv, and a virtual environment made with --system-site-packages"
            ) from None
        if not re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()):
            raise SourceError("this OpenCV is built without GStreamer, as those from PyPI are: use the system's")
        if "appsink" not in name:
            raise SourceError("a GStreamer pipeline has to end in: video/x-raw,format=BGR ! appsink drop=1")
        self._cv2, self._number = cv2, 0

    def frames(self) -> Generator[Frame, None, None]:
        """Opens the pipeline and yields its frames; see `Source`."""
        capture = self._cv2.VideoCapture(self.name, self._cv2.CAP_GSTREAMER)
        try:
            if not capture.isOpened():
                raise SourceError(f"GStreamer cannot run the pipeline {self.name}")
            while True:
                read, pixels = capture.read()
                if not read:
                    return
                yield ArrayFrame(pixels[:, :, ::-1].copy(), self._number, time.monotonic())
                self._number += 1
        finally:
            capture.release()
