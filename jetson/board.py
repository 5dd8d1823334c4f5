"""Description of a board: module, release, memory, power mode, clocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import nvpmodel
from .clocks import Clock, emc_clock, gpu_clock
from .memory import parse_meminfo
from .modules import Module, module_of
from .nvpmodel import PowerMode
from .releases import installed_packages, jetpack_of, parse_l4t
from .sysfs import ROOT, read

RELEASE = "/etc/nv_tegra_release"
DPKG = "/var/lib/dpkg/status"
DEVICE_TREE = ("/proc/device-tree", "/sys/firmware/devicetree/base")  # the second where a container hides the first


@dataclass(frozen=True)
class Board:
    """One board, as its own files describe it; None is what they do not tell.

    Attributes:
        model: name in the device tree.
        module: row of `modules.MODULES`.
        l4t: version of Jetson Linux, e.g. `36.4.3`.
        jetpack: version of JetPack, e.g. `6.2`.
        memory_gib: memory of the system.
        power_modes: modes that the board offers.
        power_mode: mode that it is in.
        gpu, emc: clocks of the GPU and of the memory.
        packages: names and versions of apt packages.
    """

    model: str | None
    module: Module | None
    l4t: str | None
    jetpack: str | None
    memory_gib: float | None
    power_modes: tuple[PowerMode, ...]
    power_mode: PowerMode | None
    gpu: Clock | None
    emc: Clock | None
    packages: dict[str, str]

    @property
    def is_jetson(self) -> bool:
        """Whether any of its files says that it is a Jetson."""
        return self.l4t is not None or self.module is not None

    def as_json(self) -> dict[str, Any]:
        """Returns what belongs beside a figure that was measured here."""
        return {
            "model": self.model,
            "module": self.module.key if self.module else None,
            "l4t": self.l4t,
            "jetpack": self.jetpack,
            "memory_gib": self.memory_gib,
            "power_mode": self.power_mode.name if self.power_mode else None,
            "gpu_clock": asdict(self.gpu) if self.gpu else None,
            "emc_clock": asdict(self.emc) if self.emc else None,
        }

    def __str__(self) -> str:
        if not self.is_jetson:
            return "not a Jetson"
        parts = [self.model or (self.module.name if self.module else "a Jetson")]
        parts.append(f"L4T {self.l4t or 'unknown'} (JetPack {self.jetpack or 'unknown'})")
        if self.memory_gib:
            parts.append(f"{self.memory_gib:.1f} GiB")
        parts.append(f"power mode {self.power_mode.name if self.power_mode else 'unknown'}")
        return ", ".join([*parts, f"GPU {_clock(self.gpu)}", f"EMC {_clock(self.emc)}"])


def read_board(root: Path = ROOT) -> Board:
    """Reads the board, or a tree that was copied from one.

    Args:
        root: `/`, or where the tree is.
    """
    packages = installed_packages(read(root, DPKG) or "")
    l4t = parse_l4t(read(root, RELEASE) or "") or parse_l4t(packages.get("nvidia-l4t-core", ""))
    offered = nvpmodel.modes(root)
    compatible = _device_tree(root, "compatible") or ""
    has_super_mode = any("SUPER" in mode.name.upper() for mode in offered)
    total = parse_meminfo(read(root, "/proc/meminfo") or "").get("MemTotal")
    return Board(
        model=_device_tree(root, "model"),
        module=module_of(compatible, has_super_mode),
        l4t=l4t,
        jetpack=jetpack_of(l4t),
        memory_gib=total / 2**30 if total else None,
        power_modes=tuple(offered),
        power_mode=nvpmodel.current(root, offered) if offered else None,
        gpu=gpu_clock(root),
        emc=emc_clock(root),
        packages=packages,
    )


def _device_tree(root: Path, name: str) -> str | None:
    found = (read(root, f"{folder}/{name}") for folder in DEVICE_TREE)
    return next((text for text in found if text), None)


def _clock(clock: Clock | None) -> str:
    if clock is None or clock.now is None:
        return "clock not readable"
    return f"{clock.now:.0f} MHz" + (f" of {clock.highest:.0f}" if clock.highest else "")
