"""An hour of `runtime/watch.py`: what its process holds over the time, and its events against those that are true.

    python train/demo/footage.py --out artifacts/hour.mp4 --seconds 3700 --fps 5 --seed 4
    python -m tests.runtime.watch_hour --engine artifacts/demo-host --clip artifacts/hour.mp4

The video is watched at its own rate. Memory, open files and threads are noted every ten seconds; their slopes, over the
second half, have the middle 95 % of slopes over noted times drawn again with replacement.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from mobilevlm.runtime.camera.event import Event
from tests.conftest import ROOT
from tests.faults.soak import fitted, held
from tests.runtime.watch_figures import judge, read_truth

EVERY_S = 10


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--at-least-every", default="2", metavar="SECONDS")
    options = parser.parse_args()
    truth = read_truth(options.clip)
    words = [sys.executable, str(ROOT / "runtime" / "watch.py"), "--engine", str(options.engine)]
    words += ["--source", str(options.clip), "--ask", truth["question"], "--choices", ",".join(truth["choices"])]
    words += ["--at-least-every", options.at_least_every]
    begin, times, found = time.monotonic(), [], []
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(EVERY_S)
            if process.poll() is None:
                times.append(time.monotonic() - begin)
                found.append(held(process.pid))
                print(f"{times[-1]:.0f} s", *(f"{name} {value:.0f}" for name, value in found[-1].items()), sep="; ")
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    events = [Event(**json.loads(line)) for line in lines]
    half = len(times) // 2
    for slope in fitted([at / 60 for at in times[half:]], found[half:]):
        print(str(slope).replace("a round", "a minute"))
    missed, false = judge(truth, events)
    print(f"{len(events)} events, {len(missed)} missed, {len(false)} false: {missed} {false}")


if __name__ == "__main__":
    main()
