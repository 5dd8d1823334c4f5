"""A command in a process of its own that is killed: after a time, or at one of its changes to files.

The processes are forked from one that has imported PyTorch and the rest, and has no threads: that takes a command two
to four seconds.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mobilevlm.engines.stages import MANIFEST_FILE, REPORT_FILE, TIMING_CACHE_FILE
from tests.faults.patience import patient

CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink")
LONGEST = 120.0  # seconds that a command may take
_OF_PROCESSES = re.compile(r"(?<=\W)\d+(?=\W|$)")  # process ids in the names of temporary files


class Warm:
    """Process that commands are forked from.

    Args:
        modules: that it imports.
    """

    def __init__(self, modules: tuple[str, ...]):
        for name in modules:
            import_module(name)


@dataclass(frozen=True)
class Ended:
    """End of a command.

    Attributes:
        status: exit status; below 0 for a signal.
        seconds: that it took.
        changes: number of changes to files that Python's audit saw; 0 after a kill.
        orphans: whether processes that it had started outlived it by more than some seconds.
        said: last lines of its output.
    """

    status: int
    seconds: float
    changes: int = 0
    orphans: bool = False
    said: str = ""


def run(
    _: Warm, main: str, words: list[str], room: Path, delay: float | None = None, change: int | None = None
) -> Ended:
    """Runs a command in a room, and kills it.

    Args:
        main: `module:function` that reads `sys.argv`.
        words: of the command line.
        room: has `work`, where the command runs, `tmp` and `cache`.
        delay: seconds until it is killed; None for never.
        change: number of the change to files before which it kills itself; None for none.
    """
    (room / "tmp").mkdir(exist_ok=True)
    reading, writing = os.pipe()
    begin, child = time.monotonic(), os.fork()
    if child == 0:
        os.close(reading)
        _in_child(main, words, room, change, writing)
    os.close(writing)
    limit = patient(LONGEST) if delay is None else delay
    status = _wait(child, begin + limit)
    if status is None:
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = time.monotonic() - begin
    orphans = _outlived(child)
    with os.fdopen(reading, "rb") as pipe:
        changes = int(pipe.read() or 0)
    said = (room / "said").read_text(errors="replace")[-1500:]
    return Ended(status, seconds, changes, orphans, said)


def _wait(child: int, end: float) -> int | None:
    """Exit status of a child; None where it still runs at the end."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(min(0.005, max(0.0, end - time.monotonic())))


def _outlived(group: int, seconds: float = 20.0) -> bool:
    """Whether processes of a group live on; they are ended then."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return True


def _in_child(main: str, words: list[str], room: Path, change: int | None, writing: int) -> None:
    """Runs the command and ends this process."""
    os.setsid()
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # it may have children
    os.chdir(room / "work")
    said = os.open(room / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ |= {"TMPDIR": str(room / "tmp"), "XDG_CACHE_HOME": str(room / "cache"), "HOME": str(room / "home")}
    counted = _Counted(change)
    sys.addaudithook(counted.hook)
    os.fsync = counted.before(os.fsync)
    module, _, function = main.partition(":")
    sys.argv = [module, *words]
    status = 1
    try:
        getattr(import_module(module), function)()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(writing, str(counted.number).encode())
    os._exit(status)


class _Counted:
    """Changes to files so far; the process ends itself before one of them.

    Args:
        last: number of the change that is not made; None for none.
    """

    def __init__(self, last: int | None):
        self.number, self._last = 0, last

    def _next(self) -> None:
        self.number += 1
        if self.number == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event: str, values: tuple[object, ...]) -> None:
        """Sees what Python is about to do."""
        if event in CHANGES or event == "open" and _writes(values):
            self._next()

    def before(self, function: Callable[[int], None]) -> Callable[[int], None]:
        """Counts calls of a function, too."""

        def counted(descriptor: int) -> None:
            self._next()
            function(descriptor)

        return counted


def _writes(values: tuple[object, ...]) -> bool:
    path, _, flags = values
    return (
        isinstance(flags, int)
        and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        and not isinstance(path, int)
        and not os.fsdecode(path).startswith("/dev/")  # type: ignore[arg-type]  # what `open` takes
    )


def _timeless(content: bytes) -> bytes:
    """A manifest without what the clock decides: seconds of a compilation, what TensorRT measured, the seal."""
    try:
        raw = json.loads(content)
    except ValueError:
        return content
    for engine in raw.get("tensorrt", {}).get("engines", {}).values():
        engine.pop("seconds", None)
    raw.get("files", {}).pop(TIMING_CACHE_FILE, None)
    raw.pop("seal", None)
    return json.dumps(raw).encode()


def contents(folder: Path) -> dict[str, str]:
    """Hashes of all files below a folder by name, links and folders too; process ids in names become `N`."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder] * folder.exists():
        name = _OF_PROCESSES.sub("N", str(path.relative_to(folder))) if path != folder else ""
        if path.name in (TIMING_CACHE_FILE, REPORT_FILE):  # holds what was measured, for people
            found[name] = "measured"
        elif path.suffix == ".minisig":  # its comment has the time
            found[name] = "signed"
        elif path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            content = path.read_bytes()
            found[name] = hashlib.sha256(_timeless(content) if path.name == MANIFEST_FILE else content).hexdigest()
        else:
            found[name] = "folder"
    return found
