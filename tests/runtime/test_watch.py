"""The command on a video whose events are known: none missed, none false, few frames asked about; and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import pytest

from mobilevlm.errors import UserError
from mobilevlm.runtime import watch
from mobilevlm.runtime.camera.answer import Answer, ask
from mobilevlm.runtime.camera.change_gate import ChangeGate
from mobilevlm.runtime.camera.hysteresis import Hysteresis
from mobilevlm.runtime.camera.sources import source_of
from mobilevlm.runtime.camera.watcher import Watcher
from mobilevlm.runtime.session import Session
from mobilevlm.train.demo import footage
from tests.conftest import ROOT, once, run
from tests.runtime import watch_figures
from tests.runtime.test_camera_sinks import Server

WATCH = ROOT / "runtime" / "watch.py"
SECONDS, FPS = 60, 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A minute of 300 frames by `train/demo/footage.py`, and its JSON file."""

    def make(folder):
        done = run(
            *(ROOT / "train" / "demo" / "footage.py", "--out", folder / "clip.mp4"),
            *("--seconds", str(SECONDS), "--fps", str(FPS), "--seed", "1"),
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == json.loads((folder / "clip.json").read_text())

    return once(tmp_path_factory, "footage", make) / "clip.mp4"


@pytest.fixture(scope="module")
def session(demo_fp32):
    with Session(demo_fp32) as session:
        yield session


def options(demo_fp32, clip, *more):
    question = "--ask", footage.QUESTION, "--choices", "yes,no"
    return WATCH, "--engine", demo_fp32, "--source", clip, *question, *more


def test_no_event_is_missed_and_none_is_false(session, clip):
    truth = watch_figures.read_truth(clip)
    assert len(watch_figures.expected(truth)) >= 3
    watched = watch_figures.watch(session, clip, ChangeGate())
    assert watch_figures.judge(truth, watched.events) == ([], [])
    counts = watched.counts
    assert counts.seen == SECONDS * FPS and 5 * counts.asked < counts.seen
    assert counts.gate_s / counts.seen <= 0.02 * counts.answer_s / counts.asked


def test_missed_and_false_events_are_seen_by_the_judge(session, clip):
    """A gate that never opens again misses every event but the first; a wrong answer is false."""

    class Shut(ChangeGate):
        def has_changed(self, frame):
            return super().has_changed(frame) and frame.number == 0

    truth = watch_figures.read_truth(clip)
    watched = watch_figures.watch(session, clip, Shut())
    missed, false = watch_figures.judge(truth, watched.events)
    assert (missed, false) == (watch_figures.expected(truth)[1:], [])
    assert watch_figures.judge(truth, watched.events * 2)[1] == watched.events


def test_the_command_says_the_same(demo_fp32, clip, tmp_path):
    """Events as lines on stdout, or in a file, and at a webhook; the summary on stderr."""
    with Server() as server:
        done = run(
            *options(demo_fp32, clip, "--every-frame", "--hold", "2"),
            *("--out", tmp_path / "events.jsonl", "--webhook", server.url),
        )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    expected = watch_figures.expected(watch_figures.read_truth(clip))
    assert [line["answer"] for line in lines] == [answer for _, answer in expected]
    assert all(0 <= line["frame_time_s"] - begun < 1 for line, (begun, _) in zip(lines, expected, strict=True))
    assert server.bodies == lines
    assert f"{SECONDS * FPS} frames, " in done.stderr and f"{len(lines)} events" in done.stderr


def test_a_free_answer_is_the_answer(session, clip):
    with closing(source_of(str(clip)).frames()) as frames:
        image = next(frames).image()
    free = ask(session, "Is there a circle?", image)
    assert free.text == "".join(session.chat("Is there a circle?", image)) and "circle" in free.text
    closed = ask(session, "Is there a circle?", image, ["yes", "no"])
    assert closed.text == "no" and closed.probabilities["no"] > 0.9


def test_choices_are_offered_as_the_model_says_them():
    """Of the interface of `Session.choose`; the answer comes back as it was typed."""
    asked = []

    class Choosing:
        def choose(self, prompt, choices, image, *, conv_mode):
            asked.append((prompt, choices, image, conv_mode))
            answer = None if "maybe" in choices else choices[1]
            return SimpleNamespace(choices=tuple(choices), probabilities=(0.2, 0.8), answer=answer)

    assert ask(Choosing(), "Is it?", "image", ["YES", "no"]) == Answer("no", {"YES": 0.2, "no": 0.8})
    assert ask(Choosing(), "Is it?", "image", ["green", "maybe"]).text is None
    briefly = "Is it?\nAnswer the question using a single word or phrase."
    assert asked[0] == (briefly, ["Yes", "No"], "image", None) and asked[1][1] == ["green", "maybe"]


def test_memory_stays_flat(session, clip):
    """3,000 frames and 100 answers after the first 300 frames: no more than noise in what the process holds."""
    watcher = Watcher(
        lambda image: ask(session, footage.QUESTION, image, ["yes", "no"]),
        footage.QUESTION,
        gate=ChangeGate(),
        hysteresis=Hysteresis(),
        at_least_every_s=6.0,
    )
    held = []
    for _ in range(11):
        with closing(source_of(str(clip)).frames()) as frames:
            for frame in frames:
                watcher.see(frame)
        held.append(watch_figures.rss_mib())
    assert watcher.counts.seen == 11 * SECONDS * FPS and watcher.counts.asked >= 100
    assert held[-1] - held[0] < 6, held


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_ends_cleanly_when_told(demo_fp32, clip, number, status):
    """In the middle of a video at its own rate: the summary, no traceback, soon."""
    command = [sys.executable, *map(str, options(demo_fp32, clip))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert json.loads(process.stdout.readline())["answer"] == "no"
        begin = time.monotonic()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert time.monotonic() - begin < 10
    assert process.returncode == status and rest == "" and "Traceback" not in errors
    assert "watch: " in errors and "asked about" in errors


def parsed(*words):
    return watch.parser().parse_args(["--engine", "none", *words])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--source", "none.mp4", "--ask", "x"], "none.mp4 is not there"),
        (["--source", "0", "--ask", "  "], "--ask is empty"),
        (["--source", "0", "--ask", "x", "--choices", "yes"], "two or more different answers"),
        (["--source", "0", "--ask", "x", "--margin", "0.5"], "--margin needs --choices"),
        (["--source", "0", "--ask", "x", "--every-frame"], "--every-frame is for a video"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words, said):
    with pytest.raises(UserError, match=said):
        watch.watch(parsed(*words))


@pytest.mark.slow
def test_ten_minutes(session, tmp_path):
    """6,000 frames with and without the gate; the figures of docs/watch.md."""
    truth = footage.make(tmp_path / "clip.mp4", 600, 10, 1)
    watched = watch_figures.watch(session, tmp_path / "clip.mp4", ChangeGate())
    without = watch_figures.watch(session, tmp_path / "clip.mp4", None)
    for name, one in (("with the gate", watched), ("without", without)):
        watch_figures.report(name, tmp_path / "clip.mp4", one)
        assert watch_figures.judge(truth, one.events)[0] == []
    assert 5 * watched.cpu_s < without.cpu_s and 5 * watched.counts.asked < without.counts.asked
    assert watched.rss_mib[-1] - watched.rss_mib[1] < 6
