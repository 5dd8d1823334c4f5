"""Bundles of the demo model, built here, and what every CPU made of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import BUILD, DEMO, ROOT
from tests.emulated.cpus import BUNDLES, HERE, Cpu
from tests.emulated.install import CACHE, command, copy_code

SCRIPTS = ROOT / "tests" / "emulated"
PICTURE = ROOT / "assets" / "shapes.png"
SIDE_BY_SIDE = 2  # emulators, which run Python on one core
LONGEST = 3600  # seconds


@pytest.fixture(scope="session")
def code(tmp_path_factory) -> Path:
    """This project as a device has it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return copy_code(tmp_path_factory.mktemp("device"))


@pytest.fixture(scope="session")
def chosen(request) -> list[Cpu]:
    """The CPUs of the tests that are to run."""
    tests = (item for item in request.session.items if "chosen" in item.fixturenames)
    return list(dict.fromkeys(item.callspec.params["cpu"] for item in tests))


@pytest.fixture(scope="session")
def demo_bundles(chosen, tmp_path_factory) -> dict[str, Path]:
    """Those of `BUNDLES` that run on them."""
    root = tmp_path_factory.mktemp("bundles")
    names = [name for name in BUNDLES if any(name in cpu.bundles for cpu in chosen)]
    for name in names:
        target, precision = BUNDLES[name]
        given = ["--precision", precision] if precision else []
        words = [sys.executable, BUILD, "--model", DEMO, "--target", target, *given, "--out", root / name]
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=LONGEST)
        assert done.returncode == 0, done.stderr
    return {name: root / name for name in names}


def run_on(cpu: Cpu, code: Path, *words: str | Path) -> str:
    """Run a script of this folder on a CPU; returns what it prints.

    Raises:
        CannotHaveError: there is no such CPU here.
    """
    start, environment = command(cpu, code)
    script = [*start, SCRIPTS / words[0], *words[1:]]
    done = subprocess.run([*map(str, script)], env=environment, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, f"{cpu.name}: {done.returncode}, {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def answered(chosen, code, demo_bundles, tmp_path_factory) -> Iterator[Callable[[Cpu, str], tuple[dict, dict, dict]]]:
    """Call it for what a bundle did on a CPU: what `answer.py` said of that, of the CPU, and the arrays that it kept.

    All CPUs begin at once, some side by side. What they say stays beside the emulators.
    """

    def ask(cpu: Cpu) -> tuple[list[dict], Path]:
        out = tmp_path_factory.mktemp(cpu.name)
        said = run_on(
            cpu, code, "answer.py", out, PICTURE, *(demo_bundles[name] for name in cpu.bundles if name in demo_bundles)
        )
        (CACHE / f"{cpu.name}.jsonl").write_text(said)
        return [json.loads(line) for line in said.splitlines()], out

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        asked = {cpu: pool.submit(ask, cpu) for cpu in (HERE, *chosen)}

        def result(cpu: Cpu, bundle: str) -> tuple[dict, dict, dict]:
            (about, *reports), out = asked[cpu].result()
            report = next(one for one in reports if one["bundle"] == bundle)
            assert "error" not in report, f"{bundle} on {cpu.name}: {report['error']}"
            return report, about, dict(np.load(out / f"{bundle}.npz"))

        yield result
        pool.shutdown(cancel_futures=True)
