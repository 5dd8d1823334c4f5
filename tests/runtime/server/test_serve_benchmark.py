"""The load command on a real server: every answer is the one given alone, and the tables are there."""

from __future__ import annotations

import re

from tests.conftest import ROOT, run

COMMAND = ROOT / "runtime" / "serve_benchmark.py"


def test_load_and_overhead(demo_fp32, tmp_path):
    plot = tmp_path / "load.png"
    words = ["--engine", demo_fp32, "--image", ROOT / "assets" / "shapes.png", "--rounds", "2", "--plot", plot]
    done = run(COMMAND, *words, "--clients", "1", "3", "--seconds", "1")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"ratio [\d.]+ \([\d.]+ to [\d.]+\)", done.stdout)) == 2
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in done.stdout.splitlines()
        if line[:3] in ("| 1", "| 3")
    ]
    assert [row[0] for row in rows] == ["1", "3"]
    for row in rows:
        assert int(row[1]) > 3 and row[2:5] == ["0", "0", "0"]  # wrong, errors, asked to wait
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_missing_picture(demo_fp32):
    done = run(COMMAND, "--engine", demo_fp32, "--image", "nowhere.png")
    assert done.returncode == 2 and "--image nowhere.png is no file" in done.stderr
