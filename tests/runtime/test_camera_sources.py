"""Sources: files and streams made with PyAV, read by one slower than they; those that end, break or are not there."""

import io
import socket
import struct
import sys
import threading
import time
from contextlib import closing
from types import SimpleNamespace

import av
import numpy as np
import pytest

from mobilevlm.errors import UserError
from mobilevlm.runtime.camera.frames import ArrayFrame, NewestFrame, SourceError
from mobilevlm.runtime.camera.pyav_source import PyavSource
from mobilevlm.runtime.camera.sources import source_of
from mobilevlm.train.demo.footage import write_video
from tests.runtime.rtsp_server import RtspServer


def grays(count, size=(64, 96)):
    """Images whose gray tells their number."""
    return [np.full((*size, 3), 20 + 4 * number, np.uint8) for number in range(count)]


def number_in(frame) -> int:
    return round((np.asarray(frame.image()).mean() - 20) / 4)


@pytest.fixture
def clip(tmp_path):
    """Two seconds of video."""
    write_video(tmp_path / "clip.mp4", grays(40), 20)
    return tmp_path / "clip.mp4"


def test_a_file_frame_by_frame(clip):
    with closing(source_of(str(clip)).frames()) as frames:
        found = [(frame.number, frame.time, number_in(frame), frame.image().size) for frame in frames]
    assert [number for number, *_ in found] == [number for *_, number, _ in found] == list(range(40))
    assert [time for _, time, *_ in found] == pytest.approx([number / 20 for number in range(40)])
    assert {size for *_, size in found} == {(96, 64)}


def test_a_slow_reader_gets_the_newest_frame(clip):
    """A file goes at its own rate; a reader that takes 0.3 s a frame sees about every sixth, and the last."""
    notes, begin = [], time.monotonic()
    with NewestFrame(source_of(str(clip)), notes.append) as newest:
        seen = []
        for frame in newest:
            seen.append((frame.number, time.monotonic() - begin - frame.time))
            time.sleep(0.3)
    numbers = [number for number, _ in seen]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 39 and 4 <= len(numbers) <= 9
    assert max(delay for _, delay in seen) - min(delay for _, delay in seen) < 0.5  # no delay adds up
    assert notes == []


def test_thumbnails_are_means_in_every_kind_of_frame(tmp_path):
    """swscale's and Pillow's thumbnails of one image are close: the gate's limits are the same for both."""
    ys, xs = np.mgrid[:240, :320]
    image = np.stack([xs * 0.7, ys, 255 - xs * 0.5], -1).astype(np.uint8)
    image[60:120, 100:180] = (250, 30, 30)
    write_video(tmp_path / "clip.mkv", [image], 10)
    with closing(source_of(str(tmp_path / "clip.mkv")).frames()) as frames:
        decoded = next(frames)
        one, other = decoded.thumbnail(32, 24), ArrayFrame(image, 0, 0.0).thumbnail(32, 24)
    assert one.shape == other.shape == (3, 24, 32)
    luma = (one[0].astype(float) - 16) * 255 / 219  # a video's luma is 16 to 235
    assert np.abs(luma - other[0]).mean() < 3
    assert np.abs(one[1:].astype(float) - other[1:]).mean() < 8


def test_a_video_that_was_held_sideways_is_upright(tmp_path):
    """The matrix of a track, as telephones write it: a quarter turn clockwise shows it upright."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48] = 255
    write_video(tmp_path / "clip.mp4", [image], 10)
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version and flags, times and number, reserved, layer and volume
    one, zero, w = 1 << 16, 0, 1 << 30
    assert struct.unpack_from(">9i", data, matrix) == (one, 0, 0, 0, one, 0, 0, 0, w)
    struct.pack_into(">9i", data, matrix, zero, one, 0, -one, zero, 0, 64 << 16, 0, w)
    (tmp_path / "clip.mp4").write_bytes(data)
    with closing(source_of(str(tmp_path / "clip.mp4")).frames()) as frames:
        shown = np.asarray(next(frames).image())
    assert shown.shape == (96, 64, 3)
    assert shown[:40].mean() > 240 and shown[56:].mean() < 15  # what was on the left is on top


# --- live sources


def transport_stream(images) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        for image in [*images, None]:
            frame = None if image is None else av.VideoFrame.from_ndarray(image, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
    return file.getvalue()


@pytest.fixture
def tcp_stream():
    """A server that sends a short stream to whoever connects, and hangs up; the second time in the middle."""
    data, sent = transport_stream(grays(40)), []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.sendall(data if len(sent) != 1 else data[: len(data) // 2 + 77])
                sent.append(time.monotonic())

        threading.Thread(target=serve, daemon=True).start()
        yield SimpleNamespace(url=f"tcp://127.0.0.1:{listener.getsockname()[1]}", sent=sent)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_stream_that_ends_is_opened_again(tcp_stream):
    notes, seen = [], []
    with NewestFrame(source_of(tcp_stream.url), notes.append, first_pause_s=0.05) as newest:
        for frame in newest:
            seen.append(frame.number)
            if len(tcp_stream.sent) >= 4:
                break
    assert seen == sorted(set(seen))  # numbers go on
    assert sum("opening tcp://" in note for note in notes) >= 3 and sum("is back" in note for note in notes) >= 2


def test_a_stream_that_stays_away_is_tried_after_longer_and_longer_pauses(tcp_stream):
    """And closing does not wait for the pause."""
    notes = []
    source = source_of(tcp_stream.url)
    with NewestFrame(source, notes.append, first_pause_s=0.05) as newest:
        next(iter(newest))
        source._address = "tcp://127.0.0.1:1"  # nobody listens there
        deadline = time.monotonic() + 20
        while sum("refused" in note for note in notes) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        begin = time.monotonic()
    assert time.monotonic() - begin < 1.0
    refused = [note for note in notes if "refused" in note]
    assert [note.rsplit("again in ", 1)[1] for note in refused[:3]] == ["0.1 s", "0.2 s", "0.4 s"]


def test_a_camera_that_speaks_rtsp():
    server, notes, seen = RtspServer(grays(50)), [], []
    with NewestFrame(source_of(server.url), notes.append, first_pause_s=0.05) as newest:
        for frame in newest:
            seen.append(number_in(frame))
            if server.connections >= 2 and len(seen) > 3:
                break
    server.close()
    assert set(seen) <= set(range(50)) and len(set(seen)) > 3
    assert any("opening rtsp://" in note for note in notes)


# --- what cannot be opened: one sentence each


def first_of(source):
    with NewestFrame(source, print) as newest:
        return next(iter(newest))


def test_a_missing_file(tmp_path):
    with pytest.raises(
        SourceError, match=r"none\.mp4 is not there: --source takes a file, a camera's number, or a URL"
    ):
        source_of(str(tmp_path / "none.mp4"))
    with pytest.raises(SourceError, match="is a directory, not a video"):
        source_of(str(tmp_path))


def test_no_video(tmp_path, clip):
    (tmp_path / "text.mp4").write_text("no video at all " * 100)
    with pytest.raises(SourceError, match=r"text\.mp4 cannot be opened: Invalid data"):
        first_of(source_of(str(tmp_path / "text.mp4")))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(SourceError, match=r"sound\.wav has no video in it"):
        first_of(source_of(str(tmp_path / "sound.wav")))


def test_a_camera_that_is_not_there():
    with pytest.raises(SourceError, match=r"^camera 93 cannot be opened: .*\(cameras here: "):
        first_of(source_of("93"))


def test_a_stream_that_is_not_there_at_the_start():
    with pytest.raises(SourceError, match=r"rtsp://127\.0\.0\.1:1/x cannot be opened: Connection refused"):
        first_of(source_of("rtsp://127.0.0.1:1/x"))


def test_without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'mobilevlm\[camera\]'"):
        PyavSource("clip.mp4", "clip.mp4", is_live=False)


# --- GStreamer: what OpenCV would say; a pipeline itself needs a system that has both


def opencv(monkeypatch, has_gstreamer, capture=None):
    said = f"Video I/O:\n    FFMPEG:    YES\n    GStreamer:     {'YES (1.20.3)' if has_gstreamer else 'NO'}\n"
    double = SimpleNamespace(getBuildInformation=lambda: said, VideoCapture=capture, CAP_GSTREAMER=1800)
    monkeypatch.setitem(sys.modules, "cv2", double)


PIPELINE = "nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGR ! appsink drop=1"


def test_a_pipeline_needs_an_opencv_with_gstreamer(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SourceError, match="OpenCV, which is not installed"):
        source_of(PIPELINE)
    opencv(monkeypatch, has_gstreamer=False)
    with pytest.raises(SourceError, match="built without GStreamer"):
        source_of(PIPELINE)
    opencv(monkeypatch, has_gstreamer=True)
    with pytest.raises(SourceError, match="appsink"):
        source_of("v4l2src ! fakesink")


def test_frames_of_a_pipeline(monkeypatch):
    """Of OpenCV's interface: what is read is BGR and live."""
    images = [np.full((4, 6, 3), (number, 0, 200), np.uint8) for number in range(3)]
    released = []
    capture = SimpleNamespace(
        isOpened=lambda: True,
        read=lambda: (True, images.pop(0)) if images else (False, None),
        release=lambda: released.append(True),
    )
    opencv(monkeypatch, True, lambda pipeline, api: capture if (pipeline, api) == (PIPELINE, 1800) else None)
    source = source_of(PIPELINE)
    found = [np.asarray(frame.image())[0, 0].tolist() for frame in source.frames()]
    assert source.is_live and found == [[200, 0, number] for number in range(3)] and released == [True]
