"""Table of what every command opens, looks up and writes, as docs/privacy.md shows it.

python -m tests.faults.network             all commands, some minutes
python -m tests.faults.network chat verify    those whose script has one of these words in its path, and the builds
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mobilevlm.commands import CONSOLE_SCRIPTS
from mobilevlm.engines.tables import markdown_lines
from tests.faults.jobs import jobs, prepare
from tests.faults.traced import Room, Traced, can_be_alone, can_trace


def findings(done: Traced) -> list[str]:
    """What a command did beyond what it was asked to."""
    found = [f"connects to {peer}" for peer in sorted(done.peers)]
    found += ["looks up a name"] * done.lookups
    return found + [f"writes {path}" for path in sorted(done.outside)]


def rows(room: Room, wanted: list[str]) -> Iterator[tuple[str, ...]]:
    """A row a job: command, what it did, sockets, look-ups, files elsewhere, files in the cache."""
    prepare(room)
    for job in jobs():
        if wanted and "build_engines" not in job.script and not any(word in job.script for word in wanted):
            continue
        print(job.script, job.what, file=sys.stderr, flush=True)
        done = job.traced(room)
        what = job.what if done.returncode == job.status else f"{job.what}: exit status {done.returncode}"
        if done.returncode != job.status:
            print(done.said, file=sys.stderr)
        sockets = [*sorted(done.peers), *["loopback"] * bool(done.loopback)]
        yield (
            f"`{CONSOLE_SCRIPTS[job.script]}`",
            what,
            ", ".join(sockets) or "none",
            "yes" if done.lookups else "none",
            ", ".join(sorted(done.outside)) or "none",
            ", ".join(_kinds(room, done)) or "none",
        )


def _kinds(room: Room, done: Traced) -> list[str]:
    """Folders of our cache that a command made or wrote to."""
    inside = [Path(path) for path in done.cached if Path(path).is_relative_to(room.cache)]
    return sorted({path.relative_to(room.cache).parts[0] for path in inside if path != room.cache})


def main() -> None:
    """Prints the table."""
    if not can_trace():
        sys.exit("strace is needed, and the right to trace")
    print(f"network {'taken away' if can_be_alone() else 'as it is'}", file=sys.stderr)
    head = ["command", "job", "sockets", "look-ups", "files elsewhere", "in the cache"]
    with tempfile.TemporaryDirectory() as folder:
        for line in markdown_lines(head, rows(Room(Path(folder)), sys.argv[1:])):
            print(line, flush=True)


if __name__ == "__main__":
    main()
