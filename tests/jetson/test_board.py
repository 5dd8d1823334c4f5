"""What a board is, from its own files: releases, modules, power modes, clocks, memory, heat."""

from pathlib import Path

import pytest

from mobilevlm.jetson import nvpmodel
from mobilevlm.jetson.board import read_board
from mobilevlm.jetson.clocks import Clock, emc_clock, gpu_clock, gpu_load
from mobilevlm.jetson.memory import parse_buddyinfo, parse_meminfo, parse_swaps
from mobilevlm.jetson.modules import MODULES, module_of
from mobilevlm.jetson.rails import rail_sets, read_rails
from mobilevlm.jetson.releases import installed_packages, jetpack_of, parse_l4t, stack_of
from mobilevlm.jetson.thermal import over_current_events, zones
from tests.jetson.trees import EMC, FILES, NANO_MONITOR, in_order, out_of_the_box, rail, write


@pytest.mark.parametrize(
    ("text", "l4t", "jetpack", "tensorrt"),
    [
        ((FILES / "nv_tegra_release_36.4.3").read_text(), "36.4.3", "6.2", "10.3"),
        ((FILES / "nv_tegra_release_39.2.0").read_text(), "39.2.0", "7.2", "10.16"),
        ("36.5.0-20260115194252", "36.5.0", "6.2.2", "10.3"),
        ("# R36 (release), REVISION: 3.0, GCID: 1", "36.3.0", "6.0", None),  # TensorRT 8.6: not supported
        ("# R35 (release), REVISION: 6.2, GCID: 1", "35.6.2", None, None),
        ("# R38 (release), REVISION: 4.0, GCID: 1", "38.4.0", "7.1", None),  # not for Orin
        ("# R39 (release), REVISION: 9.9, GCID: 1", "39.9.9", None, "10.16"),
        ("no release", None, None, None),
    ],
)
def test_releases(text, l4t, jetpack, tensorrt):
    assert parse_l4t(text) == l4t
    assert jetpack_of(l4t) == jetpack
    stack = stack_of(l4t)
    assert (stack.tensorrt if stack else None) == tensorrt


# Sparse int8 TOPS of the whole module less those of its DLAs, and GB/s: NVIDIA's published figures.
PUBLISHED = {
    "agx-orin-64": (275 - 105, 204.8),
    "agx-orin-32": (200 - 92, 204.8),
    "orin-nx-16": (100 - 40, 102.4),
    "orin-nx-16-super": (157 - 80, 102.4),
    "orin-nx-8": (70 - 20, 102.4),
    "orin-nx-8-super": (117 - 40, 102.4),
    "orin-nano-8": (40, 68),
    "orin-nano-8-super": (67, 102),
    "orin-nano-4": (20, 34),
    "orin-nano-4-super": (34, 51),
}


@pytest.mark.parametrize("key", MODULES)
def test_the_table_gives_the_published_peaks(key):
    tops, gb_per_s = PUBLISHED[key]
    module = MODULES[key]
    assert 2 * module.operations_per_s("int8") / 1e12 == pytest.approx(tops, rel=0.03)  # sparse is twice dense
    assert module.gb_per_s() == pytest.approx(gb_per_s, rel=0.01)


def test_peaks_follow_clocks():
    module = MODULES["agx-orin-64"]
    assert module.operations_per_s("fp32") == pytest.approx(5.3e12, rel=0.01)  # 2048 CUDA cores at 1.3 GHz
    assert module.operations_per_s("fp16", gpu_mhz=650) == module.operations_per_s("fp16") / 2
    assert MODULES["orin-nano-8-super"].gb_per_s(2133) == pytest.approx(68.3, abs=0.1)  # as in its 25W mode


@pytest.mark.parametrize(
    ("compatible", "has_super_mode", "key"),
    [
        ("nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234", False, "agx-orin-64"),
        ("nvidia,p3737-0000+p3701-0000", True, "agx-orin-64"),  # has no row of its own with Super clocks
        ("nvidia,p3701-0004", False, "agx-orin-32"),
        ("nvidia,p3768-0000+p3767-0000-super", True, "orin-nx-16-super"),
        ("nvidia,p3768-0000+p3767-0001", False, "orin-nx-8"),
        ("nvidia,p3768-0000+p3767-0005", True, "orin-nano-8-super"),
        ("nvidia,p3767-0003", False, "orin-nano-8"),
        ("nvidia,p3767-0004", False, "orin-nano-4"),
        ("nvidia,p2972-0000 nvidia,tegra194", False, None),  # AGX Xavier
        ("", False, None),
    ],
)
def test_modules_by_device_tree(compatible, has_super_mode, key):
    module = module_of(compatible, has_super_mode)
    assert (module.key if module else None) == key


def test_power_modes_are_read_and_not_assumed():
    modes = nvpmodel.parse_modes((FILES / "nvpmodel_orin_nano_super.conf").read_text())
    assert [(mode.id, mode.name) for mode in modes] == [(0, "15W"), (1, "25W"), (2, "MAXN_SUPER"), (3, "7W")]
    assert [mode.gpu_mhz for mode in modes] == [612, 918, None, 408]
    assert [mode.emc_mhz for mode in modes] == [2133, 2133, None, 2133]
    assert nvpmodel.fastest(modes).name == "MAXN_SUPER"
    assert nvpmodel.fastest([mode for mode in modes if mode.id != 2]).name == "25W"
    agx = nvpmodel.parse_modes((FILES / "nvpmodel_agx_orin.conf").read_text())
    assert nvpmodel.fastest(agx).id == 0 and [mode.rank for mode in agx][1:] == [15, 30, 50]
    assert nvpmodel.parse_modes("# nothing") == [] and nvpmodel.fastest([]) is None


def test_the_present_mode():
    assert nvpmodel.parse_query((FILES / "nvpmodel_q.txt").read_text()) == (0, "15W")
    assert nvpmodel.parse_query((FILES / "nvpmodel_q_verbose.txt").read_text()) == (2, "MAXN_SUPER")
    assert nvpmodel.parse_query("nvpmodel: failed to open /sys") == (None, None)
    assert nvpmodel.parse_status("pmode:0002") == 2 and nvpmodel.parse_status("") is None


def test_memory_files():
    text = "MemTotal:       1024 kB\nMemAvailable:    512 kB\nHugePages_Total:       0\n"
    assert parse_meminfo(text) == {"MemTotal": 1048576, "MemAvailable": 524288}
    swaps = parse_swaps(
        "Filename Type Size Used Priority\n/dev/zram0 partition 2048 1024 5\n/swapfile file 4096 0 -2\n"
    )
    assert [(swap.name, swap.size_bytes, swap.used_bytes, swap.is_zram) for swap in swaps] == [
        ("/dev/zram0", 2 << 20, 1 << 20, True),
        ("/swapfile", 4 << 20, 0, False),
    ]
    blocks = parse_buddyinfo("Node 0, zone      DMA   1   0   2\nNode 0, zone   Normal  10   5   0\n")
    assert blocks == {4096: 11, 8192: 5, 16384: 2}


def test_packages_that_were_removed_do_not_count(tmp_path):
    text = (out_of_the_box(tmp_path) / "var/lib/dpkg/status").read_text()
    assert installed_packages(text) == {"nvidia-l4t-core": "36.4.7-20250918154033"}


def test_a_board_out_of_the_box(tmp_path):
    board = read_board(out_of_the_box(tmp_path))
    assert (board.l4t, board.jetpack, board.module.key) == ("36.4.7", "6.2.1", "orin-nano-8-super")
    assert board.power_mode.name == "15W" and board.gpu == Clock(306, 306, 612) and board.emc is None
    assert board.memory_gib == pytest.approx(7.44, abs=0.01)
    assert str(board).startswith(
        "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super, L4T 36.4.7 (JetPack"
    )
    assert "power mode 15W, GPU 306 MHz of 612, EMC clock not readable" in str(board)
    assert board.as_json()["module"] == "orin-nano-8-super" and board.as_json()["emc_clock"] is None


def test_a_board_in_order(tmp_path):
    board = read_board(in_order(tmp_path))
    assert (board.l4t, board.jetpack, board.module.key) == ("39.2.0", "7.2", "agx-orin-64")
    assert board.power_mode.name == "MAXN" and board.gpu.is_locked and board.emc == Clock(3199, None, 3199)


def test_the_release_from_a_package(tmp_path):
    (out_of_the_box(tmp_path) / "etc/nv_tegra_release").unlink()
    assert read_board(tmp_path).l4t == "36.4.7"


def test_no_board(tmp_path):
    board = read_board(tmp_path)
    assert not board.is_jetson and str(board) == "not a Jetson"
    assert gpu_clock(tmp_path) is None and emc_clock(tmp_path) is None and gpu_load(tmp_path) is None
    assert read_rails(tmp_path) == {} and zones(tmp_path) == [] and over_current_events(tmp_path) == {}


def test_a_file_for_root_only_is_no_error(tmp_path, monkeypatch):
    in_order(tmp_path)
    read_text = Path.read_text

    def guarded(path, *arguments, **keywords):
        if "debug" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "read_text", guarded)
    assert read_board(tmp_path).emc is None


@pytest.mark.parametrize(
    ("clock", "is_locked"),
    [
        (Clock(306, 306, 1300), False),
        (Clock(1300, 306, 1300), False),  # at its highest just now, by load
        (Clock(1300, 1300, 1300), True),
        (Clock(3199, None, 3200), True),
        (Clock(2133, None, 3199), False),
        (Clock(1300), None),
    ],
)
def test_locked_clocks(clock, is_locked):
    assert clock.is_locked is is_locked


def test_gpu_load_is_per_mille(tmp_path):
    write(tmp_path, "sys/devices/platform/gpu.0/load", 437)
    assert gpu_load(tmp_path) == 0.437


def test_emc_is_read_in_hertz(tmp_path):
    write(tmp_path, f"{EMC}/rate", 665_600_000)
    assert emc_clock(tmp_path) == Clock(665.6)


def test_rails_are_products_of_voltage_and_current(tmp_path):
    assert read_rails(out_of_the_box(tmp_path)) == {"VDD_IN": 6000, "VDD_CPU_GPU_CV": 1500, "VDD_SOC": 1248}
    (tmp_path / NANO_MONITOR / "curr2_input").unlink()
    assert read_rails(tmp_path) == {"VDD_IN": 6000, "VDD_SOC": 1248}  # missing, not zero


def test_both_monitors_of_an_agx(tmp_path):
    rails = read_rails(in_order(tmp_path))
    assert rails == {"VDD_GPU_SOC": 6000, "VDD_CPU_CV": 2000, "VIN_SYS_5V0": 4500, "VDDQ_VDD2_1V8AO": 800}
    rail(tmp_path, NANO_MONITOR, 4, "NC", 1, 1)
    assert set(read_rails(tmp_path)) == set(rails)


@pytest.mark.parametrize(
    ("rails", "sets"),
    [
        (
            ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"),
            {"module": ("VDD_IN",), "compute": ("VDD_CPU_GPU_CV", "VDD_SOC")},
        ),
        (("VDD_IN",), {"module": ("VDD_IN",)}),
        (
            ("VIN_SYS_5V0", "VDD_CPU_CV", "VDD_GPU_SOC", "VDDQ_VDD2_1V8AO"),
            {"module": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), "compute": ("VDD_GPU_SOC", "VDD_CPU_CV")},
        ),
        # An AGX whose third rail is missing has no total, and nothing is passed off as one.
        (("VDD_CPU_CV", "VDD_GPU_SOC"), {"VDD_CPU_CV": ("VDD_CPU_CV",), "VDD_GPU_SOC": ("VDD_GPU_SOC",)}),
        (("VIN", "VDD_GPU"), {"VIN": ("VIN",), "VDD_GPU": ("VDD_GPU",)}),
        ((), {}),
    ],
)
def test_sets_of_rails(rails, sets):
    assert rail_sets(rails) == sets


def test_heat(tmp_path):
    found = {zone.name: zone for zone in zones(out_of_the_box(tmp_path))}
    assert set(found) == {"cpu-thermal", "tj-thermal"}  # cv0 is off
    assert (found["cpu-thermal"].celsius, found["cpu-thermal"].throttles_at) == (47.875, 99.0)
    assert found["tj-thermal"].throttles_at is None  # a critical trip point only
    assert over_current_events(tmp_path) == {"oc1": 0, "oc3": 37}
