"""Files that rot while a bundle is open, without a change of time or size.

Issue 23, "Rot is noticed": the file and the place are named within a stated time, and no answer goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from mobilevlm.engines.bundle import Bundle, BundleError, write_manifest
from mobilevlm.engines.disk import SLICE_BYTES
from mobilevlm.engines.integrity import BLOCK_BYTES, record_files
from mobilevlm.engines.scrub import DamageError, scrub
from mobilevlm.runtime import Session, scrubber
from tests.conftest import ROOT
from tests.faults.soak import cycles
from tests.faults.test_soak import by_name

QUESTION = "What color is the circle?"
SOON = 120.0  # seconds in which a demo bundle is read, on a busy machine


def rot(path, at=None):
    """Flips a bit as a disk does: neither time nor size change, and the kernel tells nobody."""
    before = path.stat()
    at = before.st_size // 2 if at is None else at
    with path.open("r+b") as file:
        file.seek(at)
        value = file.read(1)[0]
        file.seek(at)
        file.write(bytes([value ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def seen_as_it_is(directory):
    """Makes the next opening trust the files as they are now: a disk that rots leaves the time of change alone, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mobilevlm.engines.integrity._sha256", lambda path, on_read=None: "0" * 64)
        record_files(directory)


def wait_for(condition, seconds=SOON):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


@pytest.fixture
def at_once(monkeypatch):
    """Readings begin when a bundle is opened, follow each other without a pause, and take as much as they can."""
    monkeypatch.setattr(scrubber, "FIRST_AFTER_S", 0.0)
    monkeypatch.setattr(scrubber, "PERIOD_S", 0.05)
    monkeypatch.setattr(scrubber, "TIME_SHARE", 0.5)


@pytest.fixture
def demo_copy(demo_fp32, tmp_path):
    Session(demo_fp32).close()  # checked on this machine
    return shutil.copytree(demo_fp32, tmp_path / "demo")


def scrubs():
    return [thread for thread in threading.enumerate() if thread.name == "scrub"]


def test_a_flipped_bit_of_any_file_is_noticed_and_named(demo_copy, at_once):
    bundle = Bundle.open(demo_copy)
    assert len(bundle.manifest.files) > 6
    for name in [*bundle.manifest.files, "bundle.json"]:
        found = scrubber.Scrubber(bundle)
        time.sleep(0.02)
        assert found.problem is None
        rot(demo_copy / name)
        wait_for(lambda found=found: found.problem is not None)
        assert found.problem.startswith(name)
        found.stop()
        rot(demo_copy / name)  # a second flip mends it


@pytest.mark.slow
def test_a_flipped_bit_of_any_file_ends_all_answers(demo_copy, at_once):
    for name in [*Bundle.open(demo_copy).manifest.files, "bundle.json"]:
        with Session(demo_copy) as session:
            assert "".join(session.chat(QUESTION, max_new_tokens=3)) and session.damage is None
            rot(demo_copy / name)
            wait_for(lambda session=session: session.damage is not None)
            with pytest.raises(BundleError, match=rf"is damaged: {name} .*Copy it again.*build_engines"):
                session.choose(QUESTION, ["red", "blue"])
        rot(demo_copy / name)


def test_the_answer_in_progress_ends_with_the_error(demo_copy, at_once):
    with Session(demo_copy) as session:
        reply = session.chat(QUESTION, max_new_tokens=400)
        pieces = iter(reply)
        next(pieces)
        rot(demo_copy / "decoder.weights")
        wait_for(lambda: session.damage is not None)
        with pytest.raises(BundleError, match=r"decoder\.weights was altered on the disk"):
            "".join(pieces)
        assert reply.finish == "interrupted"
        with pytest.raises(BundleError, match="decoder.weights"):
            "".join(session.chat(QUESTION))


def test_the_next_opening_hashes_what_rotted(demo_copy, at_once):
    """Although the file looks as it did when it was last found whole."""
    with Session(demo_copy) as session:
        rot(demo_copy / "embed_tokens.npy")
        seen_as_it_is(demo_copy)
        Bundle.open(demo_copy)
        wait_for(lambda: session.damage is not None)
    with pytest.raises(BundleError, match="embed_tokens.npy was altered"):
        Bundle.open(demo_copy)


def test_rot_before_the_opening_is_noticed_after_it(demo_copy, at_once):
    rot(demo_copy / "vision.weights")
    seen_as_it_is(demo_copy)
    with Session(demo_copy) as session:
        wait_for(lambda: session.damage is not None)
        assert session.damage.startswith("vision.weights")


def test_without_scrub_nothing_is_read(demo_copy, at_once):
    with Session(demo_copy, scrub=False) as session:
        rot(demo_copy / "golden.safetensors")
        assert not scrubs()
        assert "".join(session.chat(QUESTION)) and session.damage is None


def test_a_bundle_that_is_replaced_or_gone_has_not_rotted(demo_copy, demo_fp32, at_once, tmp_path):
    with Session(demo_copy) as session:
        demo_copy.rename(tmp_path / "old")
        shutil.copytree(demo_fp32, demo_copy)
        with (demo_copy / "decoder.weights").open("ab") as file:
            file.write(b"another")
        write_manifest(demo_copy, Bundle.open(demo_fp32).manifest)
        wait_for(lambda: not scrubs())
        assert session.damage is None and "".join(session.chat(QUESTION))
    with Session(demo_copy) as session:
        shutil.rmtree(demo_copy)
        wait_for(lambda: not scrubs())
        assert session.damage is None


def test_a_file_that_is_gone_cut_or_unreadable_is_named(demo_copy):
    manifest = Bundle.open(demo_copy).manifest
    path, content = demo_copy / "decoder.weights", (demo_copy / "decoder.weights").read_bytes()
    for spoil, said in {
        path.unlink: "decoder.weights is missing",
        lambda: path.write_bytes(content[:-1]): f"decoder.weights has {len(content) - 1} bytes",
        lambda: (path.unlink(), path.mkdir()): "decoder.weights is no regular file",
    }.items():
        spoil()
        with pytest.raises(DamageError, match=said):
            list(scrub(demo_copy, manifest))


@pytest.mark.parametrize("size", [BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 4097])
def test_long_files_have_hashes_of_their_blocks(size, tmp_path, demo_fp32):
    content = hashlib.shake_128(b"rot").digest(size)
    (tmp_path / "decoder.weights").write_bytes(content)
    manifest = write_manifest(tmp_path, Bundle.open(demo_fp32).manifest)
    record = manifest.files["decoder.weights"]
    cut = [content[begin : begin + BLOCK_BYTES] for begin in range(0, size, BLOCK_BYTES)]
    expected = [hashlib.sha256(block).hexdigest() for block in cut] if len(cut) > 1 else None
    assert record.get("blocks") == expected and record["sha256"] == hashlib.sha256(content).hexdigest()
    slices = sum(1 for _ in scrub(tmp_path, manifest))
    assert slices == 1 + -(-size // SLICE_BYTES)
    for at in (0, BLOCK_BYTES - 1, size - 1):
        rot(tmp_path / "decoder.weights", at)
        begin = at // BLOCK_BYTES * BLOCK_BYTES
        place = f"in bytes {begin} to {min(size, begin + BLOCK_BYTES) - 1} " if expected else ""
        with pytest.raises(DamageError, match=rf"altered on the disk {place}\("):
            list(scrub(tmp_path, manifest))
        rot(tmp_path / "decoder.weights", at)


def test_a_manifest_whose_blocks_do_not_fit_is_refused(demo_copy):
    manifest = Bundle.open(demo_copy).manifest
    manifest.files["decoder.weights"]["blocks"] = ["0" * 64] * 9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mobilevlm.engines.bundle.record_files", lambda directory: manifest.files)
        write_manifest(demo_copy, manifest)
    with pytest.raises(BundleError, match="decoder.weights has .* bytes and hashes of 9 blocks"):
        Bundle.open(demo_copy)


def test_the_thread_keeps_to_its_share_of_the_time(monkeypatch):
    monkeypatch.setattr(scrubber, "TIME_SHARE", 0.02)
    worked = []

    def work():
        content = bytes(2 * SLICE_BYTES)
        for _ in range(20):
            begin = time.perf_counter()
            hashlib.sha256(content)
            worked.append(time.perf_counter() - begin)
            yield

    begin = time.perf_counter()
    scrubber._paced(work(), threading.Event())
    assert sum(worked) / (time.perf_counter() - begin) <= 0.02


def test_closing_ends_the_thread_at_once(demo_fp32, monkeypatch):
    for first in (0.0, 5.0):
        monkeypatch.setattr(scrubber, "FIRST_AFTER_S", first)
        session = Session(demo_fp32)
        assert len(scrubs()) == 1
        time.sleep(0.02)
        begin = time.perf_counter()
        session.close()
        assert time.perf_counter() - begin < 0.5 and not scrubs()


def test_a_session_that_nobody_closes_leaves_no_thread(demo_fp32):
    session = Session(demo_fp32)
    assert scrubs()
    del session
    wait_for(lambda: not scrubs())


@pytest.mark.slow
def test_a_hundred_openings_while_all_is_read_leave_all_flat(demo_fp32, at_once):
    named = by_name(cycles(demo_fp32, 100))
    for name in ("open files", "threads", "threads of Python"):
        assert named[name].low <= 0 <= named[name].high, named
    assert named["memory (KiB)"].low < 4, named


FORKED = """
import os, sys, time
from mobilevlm.runtime import Session, scrubber
scrubber.FIRST_AFTER_S = scrubber.PERIOD_S = 0.0
session = Session(sys.argv[1])
time.sleep(0.1)
pid = os.fork()
if pid == 0:
    session.close()
    with Session(sys.argv[1]) as own:
        "".join(own.chat("What color is the circle?", max_new_tokens=2))
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert session.damage is None and "".join(session.chat("What color is the circle?", max_new_tokens=2))
print("the parent answers", flush=True)
if sys.argv[2] == "Ctrl-C":
    import signal
    signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.parametrize("way", ["end", "Ctrl-C"])
def test_a_process_that_forked_ends_without_closing(demo_fp32, way):
    words = [sys.executable, "-W", "ignore", "-c", FORKED, str(demo_fp32), way]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, cwd=ROOT)
    assert done.stdout == "the parent answers\n", done.stderr
    assert done.returncode == 0 if way == "end" else done.stderr.rstrip().endswith("KeyboardInterrupt"), done.stderr
