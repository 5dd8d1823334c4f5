"""The ROS 2 node against a stand-in for rclpy: image messages, the newest first, events out; and its package's files.

No robot has run it: docs/watch.md says with which command one would.
"""

import ast
import configparser
import importlib
import json
import random
import sys
import xml.etree.ElementTree as ET
from array import array

import numpy as np
import pytest

from mobilevlm.errors import UserError
from mobilevlm.jetson.ros2.mobilevlm_watch.image_message import pixels_of
from mobilevlm.train.demo.footage import QUESTION, changes, frames
from tests.conftest import ROOT

FOLDER = ROOT / "jetson" / "ros2"
NODE = "mobilevlm.jetson.ros2.mobilevlm_watch.node"


@pytest.fixture
def ros(monkeypatch):
    """The stand-in as `rclpy`, `sensor_msgs` and `std_msgs`, and the node's module that imported it."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "jetson" / "ros2_double")
    ours = [NODE, "rclpy", "rclpy.state", "rclpy.node", "rclpy.qos", "rclpy.executors"]
    ours += ["sensor_msgs", "sensor_msgs.msg", "std_msgs", "std_msgs.msg"]
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(NODE), importlib.import_module("rclpy.state")
    for name in ours:
        sys.modules.pop(name, None)


def message(pixels: np.ndarray, encoding="rgb8", padding=0, time_s=0.0, is_bigendian=0):
    """A message of sensor_msgs.Image (the stand-in's), its rows longer than their pixels by `padding` bytes."""
    from sensor_msgs.msg import Image

    made = Image()
    made.header.stamp.sec, made.header.stamp.nanosec = divmod(round(time_s * 1e9), 10**9)
    made.height, made.width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(made.height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    made.encoding, made.step, made.is_bigendian = encoding, rows.shape[1], is_bigendian
    made.data = array("B", rows.tobytes())
    return made


RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GRAY = RGB[:, :, 0]
ALPHA = np.full((5, 7, 1), 128, np.uint8)
DEEP = GRAY.astype(np.uint16) * 256 + 17
AS_GRAY = np.repeat(GRAY[:, :, None], 3, 2)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "seen", "is_bigendian"),
    [
        ("rgb8", RGB, RGB, 0),
        ("rgb8", RGB, RGB, 1),  # of bytes the order says nothing
        ("bgr8", RGB[:, :, ::-1], RGB, 0),
        ("8UC3", RGB[:, :, ::-1], RGB, 0),
        ("rgba8", np.concatenate([RGB, ALPHA], 2), RGB, 0),
        ("bgra8", np.concatenate([RGB[:, :, ::-1], ALPHA], 2), RGB, 0),
        ("mono8", GRAY, AS_GRAY, 0),
        ("mono16", DEEP.astype("<u2"), AS_GRAY, 0),
        ("mono16", DEEP.astype(">u2"), AS_GRAY, 1),
    ],
)
def test_pixels_of_every_encoding(ros, encoding, pixels, seen, is_bigendian, padding):
    assert np.array_equal(pixels_of(message(pixels, encoding, padding, is_bigendian=is_bigendian)), seen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "yuv422_yuy2"}, "encoding yuv422_yuy2 are not read; these are: rgb8"),
        ({"encoding": ""}, r"encoding \(none\)"),
        ({"step": 20}, "with step 20 cannot have 105 bytes"),
        ({"height": 6}, "7 x 6 in rgb8 with step 21 cannot have 105 bytes"),
        ({"width": 0}, "an image of 0 x 5"),
    ],
)
def test_messages_that_are_no_image(ros, change, said):
    made = message(RGB)
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(UserError, match=said):
        pixels_of(made)


def arguments(engine, *more):
    words = [f"engine:={engine}", f"question:={QUESTION}", "choices:='yes,no'", *more]
    return ["--ros-args", *(one for word in words for one in ("-p", word))]


@pytest.fixture(scope="module")
def images():
    """Thirty seconds, two images a second, and the answer to each."""
    script = changes(30, random.Random(1))
    answers = [[one for one in script if one.time_s <= number / 2][-1].answer for number in range(60)]
    return list(frames(script, 30, 2, 1)), answers


def test_images_in_and_events_out(ros, demo_fp32, images):
    """Every event is published once, with the time of its image; a message that is no image is told of once."""
    node, state = ros
    shown, answers = images
    messages = [message(image[:, :, ::-1], "bgr8", 4, 1000 + number / 2) for number, image in enumerate(shown)]
    wrong = message(RGB, "bayer_rggb8")
    state.arriving[:] = [[one] for one in [messages[0], wrong, wrong, *messages[1:]]]
    node.main(arguments(demo_fp32))
    told = [(topic, json.loads(one.data)) for topic, one in state.published]
    true = [number for number in range(60) if number == 0 or answers[number] != answers[number - 1]]
    assert len(true) >= 2
    assert [(topic, event["answer"], event["frame_time_s"]) for topic, event in told] == [
        ("events", answers[number], 1000 + number / 2) for number in true
    ]
    assert len(state.log) == 1 and "bayer_rggb8" in state.log[0]
    assert not state.is_running


def test_the_newest_image_is_next(ros, demo_fp32, images):
    """Ten images come while an answer is made: nine of them are gone."""
    node, state = ros
    shown, _ = images
    batches = [
        [message(image, time_s=start + index / 10) for index, image in enumerate(shown[:10])] for start in (5, 6)
    ]
    state.arriving[:] = [[message(shown[0])], *batches]
    seen = []
    node.Watcher.see, see = lambda self, frame: seen.append(frame.time), node.Watcher.see
    try:
        node.main(arguments(demo_fp32))
    finally:
        node.Watcher.see = see
    assert seen == pytest.approx([0.0, 5.9, 6.9])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the parameter engine is missing"),
        (["-p", "engine:=none"], "the parameter question is missing"),
        (["-p", "engine:=none", "-p", "question:=x", "-p", "choices:=a"], "two or more different answers"),
        (["-p", "engine:=none", "-p", "question:=x"], "none"),
    ],
)
def test_mistakes_end_with_a_sentence(ros, words, said):
    node, state = ros
    with pytest.raises(SystemExit, match=said) as ended:
        node.main(["--ros-args", *words])
    assert str(ended.value).startswith("mobilevlm_watch: ") and not state.is_running


def test_the_package_is_what_ament_python_wants():
    root = ET.parse(FOLDER / "package.xml").getroot()
    name = root.findtext("name")
    assert root.get("format") == "3" and root.findtext("export/build_type") == "ament_python"
    assert {one.text for one in root.findall("exec_depend")} == {"rclpy", "sensor_msgs", "std_msgs"}
    assert (FOLDER / "resource" / name).is_file() and (FOLDER / name / "__init__.py").is_file()
    settings = configparser.ConfigParser()
    settings.read(FOLDER / "setup.cfg")
    scripts = settings["develop"]["script_dir"], settings["install"]["install_scripts"]
    assert set(scripts) == {f"$base/lib/{name}"}
    calls = [node for node in ast.walk(ast.parse((FOLDER / "setup.py").read_text())) if isinstance(node, ast.Call)]
    given = {word.arg: ast.unparse(word.value) for call in calls for word in call.keywords}
    assert "share/ament_index/resource_index/packages" in given["data_files"] and "package.xml" in given["data_files"]
    assert given["version"] == f"'{root.findtext('version')}'"
