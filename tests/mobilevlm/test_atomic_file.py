"""Files written whole: after an error, Ctrl-C or kill -9 the old content or the new is there, and the next call works."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from mobilevlm.atomic_file import write_whole
from tests.conftest import ROOT

OLD, NEW = b"old", b"new" * 100
# Kills itself at the n-th call that touches the disk.
KILLED = """
import os, signal, sys
from pathlib import Path
from mobilevlm.atomic_file import write_whole

left = int(sys.argv[2])

def counted(call):
    def step(*words, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*words, **options)
    return step

os.fsync, Path.open, Path.replace = map(counted, (os.fsync, Path.open, Path.replace))
write_whole(Path(sys.argv[1]), b"new" * 100, shared=len(sys.argv) > 3)
"""


@pytest.mark.parametrize("shared", [[], ["shared"]])
def test_killed_at_any_moment(shared, tmp_path):
    path = tmp_path / "file.json"
    for step in range(5):  # open, fsync, replace, fsync of the folder, and to the end
        path.write_bytes(OLD)
        words = [sys.executable, "-c", KILLED, path, str(step), *shared]
        done = subprocess.run(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300)
        assert done.returncode == (0 if step == 4 else -signal.SIGKILL)
        assert path.read_bytes() == (OLD if step < 3 else NEW)
        assert all(one.name.endswith(".partial") for one in tmp_path.iterdir() if one != path)
        write_whole(path, NEW)
        assert path.read_bytes() == NEW


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), SystemExit(143)])
@pytest.mark.parametrize("place", ["fsync", "replace"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_failure_leaves_the_old_file_alone(error, place, shared, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    path = tmp_path / "file.json"
    path.write_bytes(OLD)
    monkeypatch.setattr(*((os, "fsync") if place == "fsync" else (type(path), "replace")), fail)
    with pytest.raises(type(error)):
        write_whole(path, NEW, shared=shared)
    assert path.read_bytes() == OLD and list(tmp_path.iterdir()) == [path]


def test_file_systems_that_sync_no_folders(tmp_path, monkeypatch):
    sync, path = os.fsync, tmp_path / "file.json"

    def refuse(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(path, NEW)
    assert path.read_bytes() == NEW


def test_owner_and_mode_are_those_of_another_file(tmp_path):
    path, known = tmp_path / "new", tmp_path / "known"
    known.touch(mode=0o640)
    write_whole(path, memoryview(NEW), like=known)
    assert path.read_bytes() == NEW and path.stat().st_mode == known.stat().st_mode


def test_several_processes_write_one_file(tmp_path):
    code = "import sys; from pathlib import Path; from mobilevlm.atomic_file import write_whole\n"
    code += "for _ in range(50): write_whole(Path(sys.argv[1]), sys.argv[2].encode() * 5000, shared=True)"
    path = tmp_path / "file"
    words = [[sys.executable, "-c", code, path, letter] for letter in "ab"]
    started = [subprocess.Popen(one, env=os.environ | {"PYTHONPATH": str(ROOT)}) for one in words]
    assert [process.wait(300) for process in started] == [0, 0]
    assert path.read_bytes() in (b"a" * 5000, b"b" * 5000) and list(tmp_path.iterdir()) == [path]
