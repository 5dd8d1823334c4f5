"""Frames from PyAV (FFmpeg's libraries): files, cameras, network streams."""

from __future__ import annotations

import glob
import time
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mobilevlm.errors import UserError

from .frames import Frame, SourceError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter

# Seconds to wait for a source that is opened, and for data of one that is open.
_OPEN_S, _READ_S = 10.0, 10.0


class PyavFrame:
    """A decoded frame, converted when it is looked at.

    Args:
        decoded: PyAV's frame.
        number: see `Frame`.
        time: see `Frame`.
        reformatters: convert to thumbnails and to images; kept from frame to frame, each for one thread.
    """

    def __init__(
        self, decoded: VideoFrame, number: int, time: float, reformatters: tuple[VideoReformatter, VideoReformatter]
    ):
        self.number, self.time = number, time
        self._decoded = decoded
        self._to_thumbnail, self._to_image = reformatters

    def thumbnail(self, width: int, height: int) -> np.ndarray:
        """Returns the means of the frame's cells; see `Frame`."""
        small = self._to_thumbnail.reformat(self._decoded, width, height, "yuv444p", interpolation="AREA")
        return small.to_ndarray()

    def image(self) -> Image.Image:
        """Returns the frame as an RGB image, upright where the file says how it was held."""
        image = Image.fromarray(self._to_image.reformat(self._decoded, format="rgb24").to_ndarray())
        return image.rotate(self._decoded.rotation, expand=True) if self._decoded.rotation else image


class PyavSource:
    """What PyAV can open.

    Args:
        name: as the user typed it.
        address: file, URL or device as FFmpeg takes it.
        is_live: see `Source`.
        device: FFmpeg's input device; None for files and URLs.
        options: FFmpeg's, of the source.

    Raises:
        UserError: PyAV is not installed.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        is_live: bool,
        device: str | None = None,
        options: Mapping[str, str] | None = None,
    ):
        try:
            import av  # noqa: F401
        except ImportError:
            raise UserError("video is read by PyAV, which is not installed: pip install 'mobilevlm[camera]'") from None
        self.name, self.is_live = name, is_live
        self._address, self._device, self._options = address, device, dict(options or {})
        self._number = 0

    def frames(self) -> Generator[Frame, None, None]:
        """Opens the source and yields its frames; see `Source`."""
        from av.error import FFmpegError
        from av.video.reformatter import VideoReformatter

        reformatters = VideoReformatter(), VideoReformatter()
        with self._open() as container:
            try:
                for decoded in container.decode(container.streams.video[0]):
                    seconds = time.monotonic() if self.is_live else decoded.time
                    seconds = self._number / 25 if seconds is None else seconds  # raw streams have no times
                    yield PyavFrame(decoded, self._number, seconds, reformatters)
                    self._number += 1
            except FFmpegError as error:
                raise SourceError(f"{self.name} broke after {self._number} frames: {error.strerror}") from None

    def _open(self) -> InputContainer:
        import av
        from av.error import FFmpegError

        try:
            container = av.open(self._address, format=self._device, options=self._options, timeout=(_OPEN_S, _READ_S))
        except FFmpegError as error:
            raise SourceError(self._not_opened(error.strerror)) from None
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.name} has no video in it")
        return container

    def _not_opened(self, problem: str | None) -> str:
        if self._device is None:
            return f"{self.name} cannot be opened: {problem}"
        there = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        return f"camera {self.name} cannot be opened: {problem} (cameras here: {there})"
