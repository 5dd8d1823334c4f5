"""Opens mutated bundles and asks them a question: each is refused with a sentence, or answers as it should.

python -m tests.faults.bundles --seed 1 --count 1000        of two small models, which are built
python -m tests.faults.bundles --base DIR --base DIR2 --seed 1 --minutes 30    of any targets: the CPU runs their graphs

Every case runs in a process of its own, with limits of time and memory. A case is its seed: `--seed S --count 1` runs
it again, and `--keep FOLDER` keeps the bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from mobilevlm.runtime.bench.workers import Worker
from tests.conftest import GOLDEN, GOLDEN_MODELS, build_here
from tests.faults.bundle_cases import KINDS, Case, make_case
from tests.faults.patience import patient

ROOT = Path(__file__).resolve().parents[2]
IMAGE = ROOT / "assets" / "table.jpg"
QUESTION, TOKENS = "What is it?", 4
SECONDS, MEMORY = 30, 6 << 30  # limits of a case; OpenVINO and ONNX Runtime map some GB that they never touch
LONGEST_MESSAGE = 3000
REFUSED, SAME, OTHER, TRACEBACK, HANG, CRASH = "refused", "same answer", "other answer", "traceback", "hang", "crash"
FAILED = "failed"
FAILURES = (TRACEBACK, HANG, CRASH)


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        end: one of the words above.
        detail: message, answer or traceback.
    """

    end: str
    detail: str


def ask(directory: Path, checks: bool) -> Outcome:
    """Opens a bundle and asks it, in this process."""
    from mobilevlm.errors import UserError
    from mobilevlm.runtime.session import Session

    try:
        with Session(directory, check=checks, on_cpu=True) as session:
            reply = session.chat(QUESTION, IMAGE, max_new_tokens=TOKENS)
            text = "".join(reply)
            return Outcome(SAME, f"{reply.tokens} {text}")
    except UserError as error:
        message = str(error)
        sound = 20 < len(message) < LONGEST_MESSAGE and message.isprintable()
        return Outcome(REFUSED if sound else TRACEBACK, message if sound else f"no sentence: {message!r}")
    except BaseException:
        return Outcome(TRACEBACK, traceback.format_exc())


class Library:
    """Process that has the runtime imported and no threads: cases are forked from it."""

    def __init__(self) -> None:
        import mobilevlm.runtime.ort.runner
        import mobilevlm.runtime.session  # noqa: F401


def ask_forked(_: Library, directory: Path, checks: bool) -> Outcome:
    """Opens a bundle and asks it in a process of its own, with limits of time and memory.

    Args:
        directory: of the bundle.
        checks: whether its sample is run.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        found = ask(directory, checks)
        os.write(writing, json.dumps([found.end, found.detail[-3500:]]).encode())
        os._exit(0)
    os.close(writing)
    content, end = b"", time.monotonic() + patient(SECONDS)
    while (left := end - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        block = os.read(reading, 1 << 16)
        content += block
        if not block:
            break
    is_late = not content and time.monotonic() >= end
    os.close(reading)
    if is_late:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if is_late:
        return Outcome(HANG, f"no end after {SECONDS} s")
    if not content:
        return Outcome(CRASH, f"ended with status {status}")
    return Outcome(*json.loads(content))


def judged(outcome: Outcome, right: str) -> Outcome:
    """Compares an outcome's answer with the intact bundle's.

    Args:
        outcome: of a case.
        right: answer of the intact bundle.
    """
    return Outcome(OTHER, outcome.detail) if outcome.end == SAME and outcome.detail != right else outcome


def is_failure(case: Case, outcome: Outcome) -> bool:
    """Whether an outcome must not be."""
    return outcome.end in FAILURES or outcome.end == OTHER and not case.may_differ


class Fuzzer:
    """Runs cases on bundles and counts their ends.

    Args:
        bases: intact bundles.
        folder: for the mutated ones, on the same file system as the intact ones.
        library: starts the processes of cases.

    Attributes:
        ends: number of cases by kind and end.
    """

    def __init__(self, bases: Sequence[Path], folder: Path, library: Worker[Library]):
        self.bases, self._folder, self._library = list(bases), folder, library
        self.ends: Counter[tuple[str, str]] = Counter()
        self._right = {}
        for base in self.bases:
            copy = self._folder / base.name
            shutil.copytree(base, copy)
            answer = library.call(ask_forked, copy, True)
            assert answer.end == SAME, answer.detail
            self._right[base.name] = answer.detail
            shutil.rmtree(copy)

    def run(self, seed: int, keep: Path | None = None) -> tuple[Case, Outcome, bool]:
        """Runs one case; returns it, its outcome and whether that is a failure.

        Args:
            seed: of the case.
            keep: folder that gets the bundle; None for none.
        """
        directory = self._folder / f"case-{seed}"
        try:
            case = make_case(seed, self.bases, directory)
            answer = self._library.call(ask_forked, directory, case.checks)
            outcome = judged(answer, self._right[case.what.split(":")[0]])
            if keep is not None:
                shutil.copytree(directory, keep / directory.name, symlinks=True)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        self.ends[case.kind, outcome.end] += 1
        return case, outcome, is_failure(case, outcome)


def table(ends: Counter[tuple[str, str]]) -> str:
    """Counts of a run as a table."""
    columns = (REFUSED, SAME, OTHER, *FAILURES)
    lines = [f"{'kind':10}" + "".join(f"{name:>14}" for name in columns)]
    for kind in (*KINDS, "all"):
        counts = [sum(n for (one, end), n in ends.items() if end == name and kind in (one, "all")) for name in columns]
        lines.append(f"{kind:10}" + "".join(f"{count:>14}" for count in counts))
    return "\n".join(lines)


def build_bases(folder: Path) -> list[Path]:
    """Builds a bundle of each golden model."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return [build_here("--model", GOLDEN / name / "ckpt_safetensors", out=folder / name) for name in GOLDEN_MODELS]


def run_cases(
    bases: Sequence[Path], seed: int, count: int | None, minutes: float, keep: Path | None = None
) -> Counter[tuple[str, str]]:
    """Runs cases, prints those that failed with the command that repeats them, and counts; failures as `FAILED`.

    Args:
        bases: intact bundles; none for those of the golden models.
        seed: of the first case; that of the next is one more.
        count: number of cases; None for as many as there is time for.
        minutes: without a count, the time.
        keep: folder that gets the bundles; None for none.
    """
    with tempfile.TemporaryDirectory(dir=bases[0].parent if bases else None) as folder, ExitStack() as stack:
        os.environ["XDG_CACHE_HOME"] = folder  # or a verdict there would spare the sample
        library = stack.enter_context(Worker("the bundles", Library))
        fuzzer, one = Fuzzer(bases or build_bases(Path(folder) / "bases"), Path(folder), library), seed
        end = time.monotonic() + 60 * minutes  # without what building takes
        while one - seed < count if count else time.monotonic() < end:
            case, outcome, failed = fuzzer.run(one, keep)
            if failed:
                fuzzer.ends["all", FAILED] += 1
            if failed or count == 1:
                words = "".join(f" --base {shlex.quote(str(base))}" for base in bases)
                print(f"python -m tests.faults.bundles{words} --seed {one} --count 1\n{case}")
                print(f"{outcome.end}: {outcome.detail}\n", flush=True)
            one += 1
    return fuzzer.ends


def main() -> None:
    """Runs the command; exit status 1 where a case failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", action="append", default=[], type=Path, metavar="DIR", help="an intact bundle")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the first case (default: 0)")
    parser.add_argument("--count", type=int, metavar="N", help="number of cases")
    parser.add_argument("--minutes", type=float, default=1, metavar="N", help="without --count: time (default: 1)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the mutated bundles there")
    options = parser.parse_args()
    ends = run_cases(options.base, options.seed, options.count, options.minutes, options.keep)
    failures = ends.pop(("all", FAILED), 0)
    print(f"seeds from {options.seed}, {failures} failures\n{table(ends)}")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
