"""Fuzzes `load_image`: every changed picture is read or refused with a sentence, within a time and a memory.

    python -m tests.faults.pictures --seed 1 --count 10000
    python -m tests.faults.pictures --minutes 30 --keep /tmp/failures

The pictures are tried in processes of their own, which a crash ends alone. Files whose outcome is of a new kind (the
lines of Pillow's readers that it took, as far as messages tell) become seeds themselves.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from mobilevlm.image import ImageError, load_image
from tests.faults.picture_seeds import changed, seeds

SECONDS, MEGABYTES = 2.0, 400
_ENDLESS = 30.0  # seconds until a process is ended
_AT_ONCE = 50


@dataclass
class Figures:
    """Outcomes of all pictures.

    Attributes:
        counts: of "read", "refused" and "failed".
        failures: what went wrong, by format, with the file.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        names = ("read", "refused", "failed")
        return f"{sum(self.counts.values())} tried, " + ", ".join(f"{self.counts[name]} {name}" for name in names)


def outcome(data: bytes) -> tuple[str, str]:
    """Loads a picture: ("read" | "refused" | "failed", kind of outcome or what is wrong)."""
    begin = time.process_time()
    try:
        image = load_image(data)
        result = ("read", image.mode) if image.mode == "RGB" else ("failed", f"mode {image.mode}")
    except ImageError as error:
        kind = re.sub(r"\d+|'.*'", "", str(error))
        result = ("refused", kind) if "\n" not in str(error) and ". " in str(error) else ("failed", f"says {error}")
    except BaseException as error:
        return "failed", f"{type(error).__name__}: {error}"
    seconds, megabytes = time.process_time() - begin, peak_megabytes()
    if seconds > SECONDS:
        return "failed", f"{seconds:.1f} s"
    return result if megabytes <= MEGABYTES else ("failed", f"{megabytes} MB")


def peak_megabytes() -> int:
    """Returns the most memory that this process had since the last call; 0 where no system tells."""
    try:
        text = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) // 1000


def _serve(pipe: Connection) -> None:
    load_image(next(iter(seeds()["PNG"])))
    peak_megabytes()
    while (data := pipe.recv_bytes()) != b"end":
        pipe.send(outcome(data))


class _Worker:
    """Process that tries pictures."""

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def try_all(self, files: list[bytes]) -> list[tuple[str, str]]:
        """Returns the outcomes, as far as the process lives; the last one is why it does not."""
        results = []
        for data in files:
            try:
                self._pipe.send_bytes(data)
                if not self._pipe.poll(_ENDLESS):
                    results.append(("failed", f"more than {_ENDLESS:.0f} s"))
                    break
                results.append(self._pipe.recv())
            except (EOFError, OSError):
                self._process.join()
                results.append(("failed", f"the process ended with {self._process.exitcode}"))
                break
        return results

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def run(seed: int, count: int | None, minutes: float | None, formats: list[str] | None = None) -> Figures:
    """Tries changed pictures.

    Args:
        seed: of the random changes.
        count: how many; None for no limit.
        minutes: how long; None for no limit.
        formats: of the seeds; None for all.
    """
    rng, figures, end = random.Random(seed), Figures(), time.monotonic() + (minutes or 1e6) * 60
    known = {name: list(files) for name, files in seeds().items() if formats is None or name in formats}
    kinds: set[tuple[str, str]] = set()
    worker = _Worker()
    try:
        while time.monotonic() < end and (count is None or sum(figures.counts.values()) < count):
            names = [rng.choice(sorted(known)) for _ in range(_AT_ONCE)]
            files = [changed(rng.choice(known[name]), rng) for name in names]
            results = worker.try_all(files)
            for name, data, (kind, what) in zip(names, files, results, strict=False):
                figures.counts[kind] += 1
                if kind == "failed":
                    figures.failures.append((name, what, data))
                elif (name, what) not in kinds and len(data) < 1 << 20:
                    kinds.add((name, what))
                    known[name].append(data)
            if len(results) < len(files) or results[-1][1].startswith(("more than", "the process")):
                worker.end()
                worker = _Worker()
    finally:
        worker.end()
    return figures


def main() -> None:
    """Entry point: exit status 1 where a picture is neither read nor refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--format", action="append", help="seeds of this format; again for more (default: all)")
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args()
    count = 5000 if options.count is None and options.minutes is None else options.count
    figures = run(options.seed, count, options.minutes, options.format)
    print(f"seed {options.seed}: {figures}")
    for number, (name, what, data) in enumerate(figures.failures):
        print(f"  {name}: {what}")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{options.seed}-{number}.{name.lower()}").write_bytes(data)
    sys.exit(bool(figures.failures))


if __name__ == "__main__":
    main()
