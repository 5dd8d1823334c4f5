"""Copied trees of two boards: an Orin Nano as it comes out of the box, and an AGX Orin with everything in order."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import GOLDEN

FILES = GOLDEN / "jetson"
GPU = "sys/class/devfreq/17000000.gpu"
EMC = "sys/kernel/debug/bpmp/debug/clk/emc"
NANO_MONITOR = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def write(root: Path, name: str, text: str | int) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def link(root: Path, name: str, target: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(target)


def rail(root: Path, monitor: str, channel: int, name: str, millivolts: int, milliamperes: int) -> None:
    write(root, f"{monitor}/in{channel}_label", name)
    write(root, f"{monitor}/in{channel}_input", millivolts)
    write(root, f"{monitor}/curr{channel}_input", milliamperes)


def zone(root: Path, number: int, name: str, millidegrees: int, passive: int | None = None) -> None:
    folder = f"sys/class/thermal/thermal_zone{number}"
    write(root, f"{folder}/type", name)
    write(root, f"{folder}/temp", millidegrees)
    write(root, f"{folder}/trip_point_0_type", "critical")
    write(root, f"{folder}/trip_point_0_temp", 104500)
    if passive is not None:
        write(root, f"{folder}/trip_point_1_type", "passive")
        write(root, f"{folder}/trip_point_1_temp", passive)


def packages(root: Path, **versions: str) -> None:
    stanzas = [
        f"Package: {name.replace('_', '-')}\nStatus: install ok installed\nPriority: optional\nVersion: {version}\n"
        f"Description: a package\n of which there is more to say"
        for name, version in versions.items()
    ]
    stanzas.append("Package: libnvinfer8\nStatus: deinstall ok config-files\nVersion: 8.6.2")
    write(root, "var/lib/dpkg/status", "\n\n".join(stanzas))


def distribution(root: Path, python: str, name: str, version: str) -> None:
    folder = f"usr/lib/python{python}/dist-packages/{name.replace('-', '_')}-{version}.dist-info"
    write(root, f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}")


def clock(root: Path, now: int, low: int, high: int) -> None:
    for name, megahertz in (("cur_freq", now), ("min_freq", low), ("max_freq", high)):
        write(root, f"{GPU}/{name}", megahertz * 1_000_000)


def meminfo(root: Path, name: str, **kib: int) -> None:
    """`/proc/meminfo` of a board, with other numbers for some of its lines."""
    text = (FILES / f"meminfo_{name}.txt").read_text()
    for key, number in kib.items():
        text, count = re.subn(rf"(?m)^({key}: +)\d+ kB$", rf"\g<1>{number} kB", text)
        assert count == 1, key
    write(root, "proc/meminfo", text.rstrip("\n"))


def boot(root: Path, started: str = "", configured: str = "") -> Path:
    """The kernel's command line and the boot loader's file, each with one more argument; the latter."""
    line = (FILES / "cmdline_36.txt").read_text().rstrip("\n")
    write(root, "proc/cmdline", f"{line} {started}".rstrip())
    text = (FILES / "extlinux_36.conf").read_text()
    path = root / "boot/extlinux/extlinux.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("nv-auto-config ", f"nv-auto-config {configured}") if configured else text)
    return path


def jetpack_6_2_2(root: Path) -> Path:
    """The first board with L4T 36.5.0."""
    out_of_the_box(root)
    write(root, "etc/nv_tegra_release", (FILES / "nv_tegra_release_36.5.0").read_text())
    packages(root, nvidia_l4t_core="36.5.0-20260115194252")
    return root


def out_of_the_box(root: Path) -> Path:
    """Orin Nano developer kit, L4T 36.4.7, mode 15W, desktop, zram, memory in pieces, no TensorRT."""
    write(root, "etc/nv_tegra_release", (FILES / "nv_tegra_release_36.4.7").read_text())
    write(root, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0")
    compatible = "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0"
    write(root, "proc/device-tree/compatible", compatible)
    write(root, "etc/nvpmodel.conf", (FILES / "nvpmodel_orin_nano_super.conf").read_text())
    write(root, "var/lib/nvpmodel/status", "pmode:0000")
    clock(root, 306, 306, 612)
    meminfo(root, "orin_nano_36")
    boot(root)
    write(root, "proc/swaps", SWAPS + "/dev/zram0 partition\t635720\t\t0\t\t5\n/dev/zram1 partition\t635720\t\t0\t\t5")
    write(
        root,
        "proc/buddyinfo",
        "Node 0, zone      DMA  1 0 0 0 0 0 0 0 1 0 0\nNode 0, zone   Normal  9 9 9 9 9 9 9 9 9 9 3",
    )
    link(root, "etc/systemd/system/default.target", "/lib/systemd/system/graphical.target")
    link(root, "usr/bin/python3", "python3.10")
    packages(root, nvidia_l4t_core="36.4.7-20250918154033")
    rail(root, NANO_MONITOR, 1, "VDD_IN", 5000, 1200)
    rail(root, NANO_MONITOR, 2, "VDD_CPU_GPU_CV", 5000, 300)
    rail(root, NANO_MONITOR, 3, "VDD_SOC", 4992, 250)
    write(root, f"{NANO_MONITOR}/in7_label", "sum of shunt voltages")
    write(root, f"{NANO_MONITOR}/in7_input", 9)
    zone(root, 0, "cpu-thermal", 47_875, 99_000)
    zone(root, 1, "cv0-thermal", -256_000, 99_000)
    zone(root, 8, "tj-thermal", 50_218)
    write(root, "sys/class/hwmon/hwmon3/oc1_event_cnt", 0)
    write(root, "sys/class/hwmon/hwmon3/oc3_event_cnt", 37)
    return root


def in_order(root: Path) -> Path:
    """AGX Orin 64GB developer kit, L4T 39.2.0, MAXN, clocks locked, headless, a swap file, TensorRT 10.16."""
    write(root, "etc/nv_tegra_release", (FILES / "nv_tegra_release_39.2.0").read_text())
    write(root, "proc/device-tree/model", "NVIDIA Jetson AGX Orin Developer Kit\0")
    write(root, "proc/device-tree/compatible", "nvidia,p3737-0000+p3701-0005\0nvidia,p3701-0005\0nvidia,tegra234\0")
    write(root, "etc/nvpmodel.conf", (FILES / "nvpmodel_agx_orin.conf").read_text())
    write(root, "var/lib/nvpmodel/status", "pmode:0000")
    clock(root, 1300, 1300, 1300)
    write(root, f"{EMC}/rate", 3_199_000_000)
    write(root, f"{EMC}/max_rate", 3_199_000_000)
    meminfo(root, "agx_orin_39")
    boot(root)
    write(root, "proc/swaps", SWAPS + "/swapfile file\t16777212\t0\t-2")
    write(root, "proc/buddyinfo", "Node 0, zone   Normal  1 1 1 1 1 1 1 1 1 1 12000")
    link(root, "etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")
    link(root, "usr/bin/python3", "python3.12")
    packages(root, nvidia_l4t_core="39.2.0-20260602080000", libnvinfer10="10.16.2.10-1+cuda13.2")
    distribution(root, "3.12", "tensorrt", "10.16.2.10")
    distribution(root, "3.12", "cuda-bindings", "13.2.0")
    rail(root, NANO_MONITOR, 1, "VDD_GPU_SOC", 20000, 300)
    rail(root, NANO_MONITOR, 2, "VDD_CPU_CV", 20000, 100)
    rail(root, NANO_MONITOR, 3, "VIN_SYS_5V0", 5000, 900)
    other = NANO_MONITOR.replace("0040", "0041").replace("hwmon1", "hwmon2")
    rail(root, other, 1, "NC", 20000, 5)
    rail(root, other, 2, "VDDQ_VDD2_1V8AO", 20000, 40)
    return root
