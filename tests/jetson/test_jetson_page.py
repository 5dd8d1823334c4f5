"""docs/jetson.md says what the code does: the releases, the factors, and that these cover what was measured."""

import re
import shlex

import pytest

from mobilevlm.engines.tensorrt.devices import SPARE_BYTES
from mobilevlm.jetson import doctor
from mobilevlm.jetson.board import read_board
from mobilevlm.jetson.contiguous import HEAD_FACTOR, RECOMMENDED
from mobilevlm.jetson.footprint import BUILD_PER_WEIGHT, PROFILE_BYTES, TIMING_CACHE_BYTES, build_bytes
from mobilevlm.jetson.releases import FAILURES, jetpack_of
from tests.conftest import ROOT
from tests.jetson.trees import out_of_the_box, write

TEXT = (ROOT / "docs" / "jetson.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("|")]
RELEASES = [row for row in ROWS if re.match(r"3\d\.\d", row[0])]
MEASURED = [row for row in ROWS if re.match(r"vision|decoder", row[0])]


def test_every_release_with_failures_is_there():
    assert set(FAILURES) <= {row[0] for row in RELEASES} and len(RELEASES) == 7


@pytest.mark.parametrize("row", RELEASES, ids=lambda row: row[0])
def test_releases(row, tmp_path):
    l4t = row[0].split()[0]
    line, _, revision = l4t.partition(".")
    write(out_of_the_box(tmp_path), "etc/nv_tegra_release", f"# R{line} (release), REVISION: {revision}, GCID: 1")
    found = {one.name: one.status for one in doctor.examine(doctor.look_at(tmp_path, read_board(tmp_path)))}
    assert jetpack_of(l4t) == row[1]
    assert [found["nvmap"], found["cma"]] == [cell.split()[0] for cell in row[3:5]]


def test_factors():
    spare = round(SPARE_BYTES / 1e6)
    assert f"| {BUILD_PER_WEIGHT} x the largest graph's weights + {spare} MB |" in TEXT
    assert f"| {HEAD_FACTOR} x the head |" in TEXT and f"cma={RECOMMENDED}" in TEXT
    assert f"{PROFILE_BYTES // 10**6} MB for each optimization profile" in TEXT
    assert f"{TIMING_CACHE_BYTES // 10**6} MB for the timing cache" in TEXT


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: row[0])
def test_the_factors_cover_what_was_measured(row):
    """And not by much more: a prediction that is far too high refuses what would work."""
    profiles, disk, weights, engine, building = (float(cell.replace(",", "")) for cell in row[1:6])
    assert weights <= disk and engine <= disk + profiles * PROFILE_BYTES / 1e6
    assert building <= build_bytes(disk * 1e6) / 1e6 <= 2 * building


def test_commands_parse():
    for line in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)[0].splitlines():
        words = shlex.split(line)
        assert words[:2] == ["python", "jetson/doctor.py"]
        doctor.parser().parse_args(words[2:])
