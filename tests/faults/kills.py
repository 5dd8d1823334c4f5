"""SIGKILL at random moments of small jobs: what was there is whole, and the same command again ends as if unbroken.

    python -m tests.faults.kills --seed 1 --minutes 10
    python -m tests.faults.kills --seed 1 --job build --count 50

Every second kill comes after a random time, the others before a random one of the job's changes to files (a file opened
for writing, fsync, rename, remove, mkdir). A case is a job, a seed and a number: `--job J --seed S
--case N` repeats it.

After each kill, with no process left: the output is what it was, or what it becomes, or not there, or what the job says
can be gone on with; anything else that is new has a name by which `leftovers.py` or the next run finds it. Then the
same command gives the same files as an unbroken run, and leaves nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from mobilevlm.atomic_file import SUFFIX
from mobilevlm.engines.integrity import CHECKED_FILE, SEEN_FILE
from mobilevlm.engines.stages import NEXT_SIGNATURE_FILE
from mobilevlm.leftovers import leftovers
from mobilevlm.runtime.bench.workers import Worker
from tests.faults.kill_jobs import Job, ask_bundle, jobs
from tests.faults.killed import Ended, Warm, contents, run

IMPORTED = (
    *("torch", "transformers", "onnx", "onnxruntime", "accelerate", "peft", "tqdm"),
    *("mobilevlm.export.build_engines", "mobilevlm.export.bundle_writer", "mobilevlm.export.hf_layout.layout"),
    *(
        "mobilevlm.eval.run",
        "mobilevlm.eval.calibrate_choices",
        "mobilevlm.train.merge_lora",
        "mobilevlm.train.trainer",
    ),
    *("mobilevlm.train.finetune", "mobilevlm.runtime.session", "mobilevlm.runtime.server.run", "mobilevlm.export.plan"),
    *("transformers.models.llama.modeling_llama", "transformers.models.clip.modeling_clip", "mobilevlm.model.model"),
    *("tests.tensorrt_double.bundles", "mobilevlm.engines.compile", "transformers.trainer"),
)
ROUNDS = 2  # unbroken runs: what differs between them is not compared
KILLED, HELD, ENDED, FAILED = "killed", "held", "ended before", "fell short"


class Place:
    """A job's folder, its content before, and what an unbroken run makes of it.

    Args:
        job: the job.
        folder: not there yet.
        warm: starts its processes.
    """

    def __init__(self, job: Job, folder: Path, warm: Worker[Warm]):
        self.job, self._room, self._warm = job, folder, warm
        self._before, self._work = folder / "before", folder / "work"
        self._before.mkdir(parents=True)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            job.before(self._before)
        self.ends: Counter[str] = Counter()
        runs, seconds = [], []
        for _ in range(ROUNDS):
            self._reset()
            ended = self._run()
            assert ended.status == 0, f"{job.name}: {ended.said}"
            runs.append(contents(self._work))
            seconds.append(ended.seconds)
        self._changes, self._seconds = ended.changes, min(seconds)
        assert runs[0].keys() == runs[1].keys(), runs[0].keys() ^ runs[1].keys()
        self.varying = {name for name in runs[0] if runs[0][name] != runs[1][name]}
        self._after, self._old = self._compared(), contents(self._before / "out")
        self._left = contents(folder / "tmp")
        if job.answers:
            ask_bundle(self._work / "out")

    def __str__(self) -> str:
        return f"{self._seconds:.1f} s, {self._changes} changes" + f", not compared: {sorted(self.varying)}" * bool(
            self.varying
        )

    def case(self, seed: int, number: int) -> str:
        """Kills the job once and looks; empty where all holds, else what does not.

        Args:
            seed: with the number, decides the moment.
            number: of the case.
        """
        draws = random.Random(f"{self.job.name} {seed} {number}")
        change = draws.randint(1, self._changes) if self._changes and draws.random() < 0.5 else None
        delay = None if change else draws.uniform(0, self._seconds)
        self._reset()
        ended = self._run(delay, change)
        moment = f"at change {change}" if change else f"after {delay:.3f} s"
        if ended.status >= 0:
            self.ends[ENDED] += 1
        else:
            self.ends[KILLED] += 1
        wrong = [f"killed {moment}: {one}" for one in self._state(ended)]
        for path in self._work.rglob(f"*{SUFFIX}"):
            os.utime(path, (0, 0), follow_symlinks=False)  # as if the next run came some minutes later
        again = self._run()
        if again.status == 2 and self._lasting(contents(self._work / "out")) == self._new():
            pass  # killed when all was done: a command that replaces nothing says that it is there
        elif again.status:
            wrong.append(f"killed {moment}, the same command ends with {again.status}: {again.said[-600:]}")
        elif (found := self._compared()) != self._after:
            names = sorted(name for name in found | self._after if found.get(name) != self._after.get(name))
            wrong.append(f"killed {moment}, then the same command leaves other files: {names[:12]}")
        elif left := contents(self._room / "tmp").keys() - self._left.keys():
            wrong.append(f"killed {moment}: {sorted(left)[:5]} stays in TMPDIR")
        self.ends[FAILED if wrong else HELD] += 1
        return "; ".join(wrong)

    def _state(self, ended: Ended) -> list[str]:
        """What is not as it has to be after a kill."""
        wrong = ["processes that it started live on"] * ended.orphans
        out, named = self._work / "out", {left.path.name for left in leftovers(self._work)}
        expected = {path.name for path in self._before.iterdir()} | {"out", "out.partial", *named}
        strange = sorted(path.name for path in self._work.iterdir() if path.name not in expected)
        wrong += [f"{', '.join(strange)} has no name"] * bool(strange)
        if self.job.whole is None:
            found = self._lasting(contents(out))
            file = {"": self._after["out"]} if self._after.get("out") != "folder" else {}
            known = [{}, file, self._lasting(self._old), self._new()]
            other = sorted(name for name in found if found[name] != known[-1].get(name))
            wrong += [f"out is neither old nor new: {other[:12]} differ from the new"] * (found not in known)
        else:
            try:
                self.job.whole(out)
            except Exception:
                wrong.append(f"out cannot be used: {traceback.format_exc(limit=-2)}")
        return wrong

    def _new(self) -> dict[str, str]:
        """The result's part of `_lasting`, where it is a folder."""
        inside = {name.removeprefix("out/"): one for name, one in self._after.items() if name.startswith("out/")}
        return self._lasting(inside)

    def _lasting(self, found: dict[str, str]) -> dict[str, str]:
        """Those of `out` but for what varies, temporary files, and what belongs to this copy of a bundle alone.

        A next manifest's signature comes before the manifest, and goes with the next run.
        """
        left_out = (*self.varying, *(f"out/{name}" for name in (SEEN_FILE, CHECKED_FILE, NEXT_SIGNATURE_FILE)))
        return {n: one for n, one in found.items() if f"out/{n}" not in left_out and not n.endswith(SUFFIX)}

    def _compared(self) -> dict[str, str]:
        found = contents(self._work)
        of_copies = (SEEN_FILE, CHECKED_FILE)  # a killed run's verdict is kept
        return {
            name: "varies" if name in self.varying or name.endswith(of_copies) else one for name, one in found.items()
        }

    def _reset(self) -> None:
        for name in ("work", "tmp", "cache", "home"):
            shutil.rmtree(self._room / name, ignore_errors=True)
        shutil.copytree(self._before, self._work, symlinks=True)

    def _run(self, delay: float | None = None, change: int | None = None) -> Ended:
        words = [str(word) for word in self.job.words]
        return self._warm.call(run, self.job.main, words, self._room, delay, change)


def table(ends: dict[str, Counter[str]]) -> str:
    """Counts of a run, by job."""
    columns = (KILLED, ENDED, HELD, FAILED)
    rows = ends | {"all": sum(ends.values(), Counter())}
    lines = [f"{'job':26}" + "".join(f"{name:>14}" for name in columns)]
    return "\n".join(
        lines + [f"{job:26}" + "".join(f"{one[name]:>14}" for name in columns) for job, one in rows.items()]
    )


def run_kills(
    chosen: list[Job], seed: int, minutes: float, count: int | None = None, first: int = 0
) -> dict[str, Counter[str]]:
    """Kills jobs, prints what falls short with the command that repeats it, and counts.

    Args:
        chosen: the jobs; each gets its share of the time.
        seed: of the moments.
        minutes: for all of them; jobs for which there is no time are left out.
        count: kills of each, whatever the time; None for as many as there is time for.
        first: number of the first case.
    """
    found: dict[str, Counter[str]] = {}
    end = time.monotonic() + 60 * minutes
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as folder, Worker("the jobs", Warm, IMPORTED) as warm:
        for place, job in enumerate(chosen):
            begin = time.monotonic()
            share = (end - begin) / (len(chosen) - place)  # of which what an unbroken run makes takes a part
            if count is None and begin >= end:
                print(f"{job.name}: no time is left", flush=True)
                continue
            one = Place(job, Path(folder) / str(place), warm)
            found[job.name] = one.ends
            print(f"{job.name}: {one}", flush=True)
            number = first
            while number - first < count if count is not None else number == first or time.monotonic() < begin + share:
                if wrong := one.case(seed, number):
                    again = f"--job {shlex.quote(job.name)} --seed {seed} --case {number}"
                    print(f"python -m tests.faults.kills {again}\n  {wrong}", flush=True)
                number += 1
            print("  " + ", ".join(f"{value} {name}" for name, value in sorted(one.ends.items())), flush=True)
    return found


def main() -> None:
    """Runs the command; exit status 1 where something fell short."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the moments (default: 0)")
    parser.add_argument("--minutes", type=float, default=5, metavar="N", help="without --count: time (default: 5)")
    parser.add_argument("--count", type=int, metavar="N", help="kills of each job")
    parser.add_argument("--case", type=int, metavar="N", help="only this one")
    parser.add_argument("--job", action="append", metavar="NAME", help="only this one; again for more")
    options = parser.parse_args()
    chosen = [job for job in jobs() if not options.job or job.name in options.job]
    count = options.count if options.case is None else 1
    found = run_kills(chosen, options.seed, options.minutes, count, options.case or 0)
    print(f"seed {options.seed}\n{table(found)}")
    sys.exit(any(one[FAILED] for one in found.values()))


if __name__ == "__main__":
    main()
