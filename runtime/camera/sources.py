"""Sources of frames by what the user typed: a camera's number or device, a URL, a file, or a GStreamer pipeline."""

from __future__ import annotations

import re
import sys

from mobilevlm.errors import user_path

from .frames import Source, SourceError
from .gstreamer import GStreamerSource
from .pyav_source import PyavSource

# FFmpeg's input device for cameras, and how it names the camera of a number.
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}
# Over UDP, which is FFmpeg's first choice, a camera's large frames arrive with holes.
_RTSP = {"rtsp_transport": "tcp"}


def source_of(text: str) -> Source:
    """Returns the source that a text names; it is opened when its frames are read.

    Raises:
        SourceError: it is a file that is missing, or a kind of source that this machine cannot read.
    """
    if " ! " in text:
        return GStreamerSource(text)
    if re.fullmatch(r"\d+|/dev/video\d+", text):
        return _camera(text)
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        return PyavSource(text, text, is_live=True, options=_RTSP if text.lower().startswith("rtsp") else None)
    path = user_path(text)
    if not path.is_file():
        problem = "is a directory, not a video" if path.is_dir() else "is not there"
        raise SourceError(f"{path} {problem}: --source takes a file, a camera's number, or a URL")
    return PyavSource(text, str(path), is_live=False)


def _camera(text: str) -> Source:
    if sys.platform not in _CAMERAS:
        raise SourceError(f"cameras are read on Linux and macOS only: give a file or a URL instead of {text}")
    device, name = _CAMERAS[sys.platform]
    return PyavSource(text, name.format(text) if text.isdigit() else text, is_live=True, device=device)
