"""Lines of tegrastats in the forms of JetPack 5, 6 and 7.2, read field by field."""

import pytest

from mobilevlm.jetson.tegrastats import parse_line
from tests.jetson.trees import FILES

# Read off the lines by eye: `ram` is used and total, `lfb` count and MiB, `emc` and `gpu` are load and MHz.
EXPECTED = {
    "jp5_orin_nx": dict(
        ram=(6021, 15388),
        lfb=(1770, 4.0),
        swap=(491, 7694),
        cores=4,
        emc=(0.02, 2133),
        gpu=(0.37, 611),
        zones={"tj": 48.875, "cv0": 45.812, "gpu": 45.875},
        rails={"VDD_IN": 5301, "VDD_CPU_GPU_CV": 774, "VDD_SOC": 1425},
        average=("VDD_IN", 5299),
    ),
    "jp6_agx_orin": dict(
        ram=(29114, 30697),
        lfb=(3, 4.0),
        swap=(4915, 15348),
        cores=12,
        emc=(0.01, 2133),
        gpu=(0.91, 1295),  # two clocks: the lower one
        zones={"tj": 53.062, "soc1": 48.968},
        rails={"VDD_GPU_SOC": 3206, "VDD_CPU_CV": 4405, "VIN_SYS_5V0": 4767},
        average=("VIN_SYS_5V0", 4768),
    ),
    "jp6_agx_orin_user": dict(
        ram=(2448, 62840),
        lfb=(2, 4.0),
        swap=(0, 31420),
        cores=3,
        emc=(None, None),  # without root
        gpu=(0.0, None),
        zones={"tj": 42.0, "soc2": 37.843},
        rails={"VDD_GPU_SOC": 4940, "VDD_CPU_CV": 988, "VIN_SYS_5V0": 4442},
        average=("VDD_CPU_CV", 989),
    ),
    "jp7_agx_orin": dict(
        ram=(20642, 62817),
        lfb=(1, 2.0),
        swap=(None, None),
        cores=2,
        emc=(0.03, 3199),
        gpu=(0.12, 1300),
        zones={"cpu": 52.968, "gpu": 47.625},  # the first of a pair
        rails={"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500},
        average=("VDD_GPU_SOC", 5140),  # the second of three
    ),
    "jp7_orin_nano": dict(
        ram=(1483, 7620),
        lfb=(105, 4.0),
        swap=(253, 12002),
        cores=6,
        emc=(None, None),
        gpu=(0.62, 612),
        zones={"gpu": 50.0, "tj": 50.0},
        rails={"VDD_IN": 4541, "VDD_CPU_GPU_CV": 521, "VDD_SOC": 1446},
        average=("VDD_SOC", 1473),
    ),
    "thor": dict(
        ram=(4722, 125772),
        lfb=(5, 0.5),
        swap=(None, None),
        cores=2,
        emc=(0.02, 1866),
        gpu=(None, 314),  # no load
        zones={"tj": 41.5},
        rails={"VDD_GPU": 3148, "VDD_CPU_SOC_MSS": 7083, "VIN": 25910},
        average=("VIN", 25910),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_field(name):
    line, wanted = (FILES / f"tegrastats_{name}.txt").read_text(), EXPECTED[name]
    found = parse_line(line)
    assert (found.ram_used_mib, found.ram_total_mib) == wanted["ram"]
    assert (found.largest_free_count, found.largest_free_mib) == wanted["lfb"]
    assert (found.swap_used_mib, found.swap_total_mib) == wanted["swap"]
    assert len(found.cores) == wanted["cores"]
    assert (found.emc_load, found.emc_mhz) == wanted["emc"]
    assert (found.gpu_load, found.gpu_mhz) == wanted["gpu"]
    assert found.temperatures_c.items() >= wanted["zones"].items()
    assert found.rails_mw == wanted["rails"]
    rail, average = wanted["average"]
    assert found.averages_mw[rail] == average


def test_every_log_has_its_expectation():
    assert {path.stem.removeprefix("tegrastats_") for path in FILES.glob("tegrastats_*")} == set(EXPECTED)


def test_cores_are_no_temperatures_and_a_part_that_is_off_has_none():
    found = parse_line((FILES / "tegrastats_jp6_agx_orin.txt").read_text())
    assert set(found.temperatures_c) == {"cpu", "soc2", "soc0", "gpu", "tj", "soc1"}  # not cv0, which says -256
    assert found.cores[5] == (1.0, 2201) and found.cores[0] == (0.03, 729)


@pytest.mark.parametrize("line", ["", "tegrastats: not found", "RAM 12/ lfb"])
def test_other_text_is_no_reading(line):
    assert parse_line(line) is None


def test_what_is_missing_is_not_zero():
    found = parse_line("RAM 100/200MB CPU [1%@729] VDD_SOC 900mW VDD_IN 3.2W")
    assert found.rails_mw == {"VDD_SOC": 900} and found.averages_mw == {}
    assert found.gpu_load is None and found.gpu_mhz is None and found.largest_free_mib is None
    assert found.temperatures_c == {}
