"""A command under strace: internet sockets it opens, names it looks up, files it writes, in a fresh home."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

CALLS = "trace=network,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2"
PEER = re.compile(r"sin6?_port=htons\((\d+)\).*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([0-9a-f.:]+)\"")
LINE = re.compile(r"^(\d+) +(.*)$")
ENDED = re.compile(r"= (-?\d+)(?:<.*>)?(?: E[A-Z]+ .*)?$")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
FOLDER = re.compile(r"^\w+\((?:AT_FDCWD|\d+)<([^>]*)>")
DNS = 53
KERNELS = ("/dev/", "/proc/", "/sys/")  # no files
# Settings that a person's own environment could have, and that would hide what ours are.
HIDDEN = ("ORT_", "HF_", "XDG_", "MPL", "HOME", "TMPDIR", "PYTHONPATH", "DO_NOT_TRACK", "CI", "OPENVINO", "TF_BUILD")
# Matplotlib asks fontconfig for the fonts there are, which renews its own list of them where fonts have changed.
FONTS = "fontconfig"


@dataclass
class Traced:
    """What a command did.

    Attributes:
        returncode: its exit status.
        said: stdout and stderr.
        peers: internet addresses that it connected to, sent to or waited at, as `address:port`, loopback left out.
        loopback: the same on this machine.
        lookups: whether names were looked up.
        outside: files and folders that it made or wrote outside `Room`'s folders.
        cached: those in the user's cache of this project.
    """

    returncode: int
    said: str
    peers: set[str] = field(default_factory=set)
    loopback: set[str] = field(default_factory=set)
    lookups: bool = False
    outside: set[str] = field(default_factory=set)
    cached: set[str] = field(default_factory=set)


class Room:
    """Folders of a person who has just begun: an empty home, a working folder, and one for temporary files.

    Args:
        root: receives them.
    """

    def __init__(self, root: Path):
        self.root, self.home, self.work, self.temporary = root, root / "home", root / "work", root / "tmp"
        for folder in (self.home, self.work, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)
        self.cache = self.home / ".cache" / "mobilevlm"

    def environment(self) -> dict[str, str]:
        """The variables of a command here."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        more = {"HOME": self.home, "TMPDIR": self.temporary, "PYTHONPATH": ROOT, "PYTHONDONTWRITEBYTECODE": 1}
        return kept | {name: str(value) for name, value in more.items()}

    def run(self, *words: str | Path, alone: bool = True) -> Traced:
        """Runs a Python command under strace.

        Args:
            words: behind `python`.
            alone: whether the machine's network is out of its reach, where this user may arrange that.
        """
        trace = self.root / "trace"
        command = [*(["unshare", "-rn"] if alone and can_be_alone() else []), "strace", "-f", "-y", "-qq"]
        command += ["-s", "512", "-o", str(trace), "-e", CALLS, sys.executable, *map(str, words)]
        done = subprocess.run(
            command, cwd=self.work, env=self.environment(), capture_output=True, text=True, timeout=600
        )
        found = Traced(done.returncode, done.stdout + done.stderr)
        for call in calls(trace.read_text(errors="replace").splitlines()):
            self._note(found, call)
        return found

    def _note(self, found: Traced, call: str) -> None:
        for port, address in PEER.findall(call):
            if call.startswith(("connect(", "sendto(", "sendmsg(", "sendmmsg(", "bind(")):
                here = ipaddress.ip_address(address).is_loopback
                found.lookups |= int(port) == DNS
                (found.loopback if here and int(port) != DNS else found.peers).add(f"{address}:{port}")
        for path in map(Path, written(call, self.work)):
            if FONTS in path.parts:
                continue
            if path.is_relative_to(self.cache) or path in self.cache.parents and path.is_relative_to(self.home):
                found.cached.add(str(path))
            elif not any(path.is_relative_to(one) for one in (self.work, self.temporary)):
                found.outside.add(str(path))


def calls(lines: Sequence[str]) -> Iterator[str]:
    """System calls of all threads, those that another thread's interrupted in one piece."""
    begun: dict[str, str] = {}
    for line in lines:
        if not (parts := LINE.match(line)):
            continue
        thread, text = parts.groups()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text.removesuffix("<unfinished ...>").rstrip()
        elif text.startswith("<... ") and thread in begun:
            yield begun.pop(thread) + text.partition("resumed>")[2]
        else:
            yield text
    yield from begun.values()


def written(call: str, cwd: Path) -> Iterator[str]:
    """Paths that a call made or opened for writing, if it did."""
    ended = ENDED.search(call)
    if ended and int(ended[1]) < 0:
        return
    names = QUOTED.findall(call)
    makes = call.startswith(("creat(", "mkdir", "rename"))
    opens = call.startswith("open") and re.search(r"O_(WRONLY|RDWR|CREAT)", call)
    if not names or not (makes or opens):
        return
    folder = FOLDER.match(call)
    path = os.path.normpath(Path(folder[1] if folder else cwd) / names[-1])
    if not path.startswith(KERNELS):
        yield path


@cache
def can_trace() -> bool:
    """Whether strace is there and may be used."""
    return shutil.which("strace") is not None and _works("strace", "-f", "-e", CALLS, "true")


@cache
def can_be_alone() -> bool:
    """Whether this user may have a network of its own, which reaches nothing."""
    return shutil.which("unshare") is not None and _works("unshare", "-rn", "true")


def _works(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, timeout=30).returncode == 0
