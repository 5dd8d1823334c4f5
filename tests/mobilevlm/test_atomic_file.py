"""Files written whole: after an error, Ctrl-C or kill -9 the old content or the new is there."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mobilevlm.atomic_file import write_whole

OLD, NEW = b"old", b"new" * 100
KILLED_AT = ("open", "fsync", "replace", "fsync of the folder", "never")


def in_child(work: Callable[[], object]) -> int:
    """Runs something in a process of its own: its exit status, negative after a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def write_killed(path: Path, step: int, shared: bool) -> None:
    """Writes the file and is killed at the n-th call that touches the disk."""
    left = step

    def counted(call: Callable) -> Callable:
        def stepped(*words, **options):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return call(*words, **options)

        return stepped

    os.fsync, Path.open, Path.replace = map(counted, (os.fsync, Path.open, Path.replace))
    write_whole(path, NEW, shared=shared)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("moment", KILLED_AT)
def test_killed_at_any_moment(moment, shared, tmp_path):
    path, step = tmp_path / "file.json", KILLED_AT.index(moment)
    path.write_bytes(OLD)
    status = in_child(lambda: write_killed(path, step, shared))
    assert status == (0 if moment == "never" else -signal.SIGKILL)
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
    path = tmp_path / "file"

    def write(letter: bytes) -> None:
        for _ in range(50):
            write_whole(path, letter * 5000, shared=True)

    def both() -> None:
        child = os.fork()
        write(b"a" if child == 0 else b"b")
        assert child == 0 or os.waitpid(child, 0)[1] == 0

    assert in_child(both) == 0
    assert path.read_bytes() in (b"a" * 5000, b"b" * 5000) and list(tmp_path.iterdir()) == [path]
