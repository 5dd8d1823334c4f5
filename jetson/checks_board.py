"""Checks of the board's state: power mode, clocks, memory, swap, desktop, disk."""

from __future__ import annotations

import os
import sys

from mobilevlm.commands import command

from . import extlinux, nvpmodel
from .clocks import SLACK
from .contiguous import PARAMETER, RECOMMENDED, RECOMMENDED_BYTES, ContiguousMemory, read_contiguous
from .findings import ADVICE, OK, PROBLEM, UNKNOWN, Finding, System
from .memory import parse_buddyinfo, parse_meminfo, parse_swaps
from .releases import FAILURES, builds_worked, is_before_failures
from .sysfs import read

SET_CMA = f"{PARAMETER}={RECOMMENDED}"
SWAP_FILE, SWAP_GIB = "/swapfile", 16
SMALL_BOARD_GIB = 16  # builds on boards up to here need more than the memory
LARGE_BLOCK, FEW_BLOCKS = 4 << 20, 16
NEEDED_DISK = 10 * 10**9  # 1.7B in fp16: the bundle's graphs 3.2 GB, the engines as much again, room to build
DEFAULT_TARGETS = ("/etc/systemd/system/default.target", "/usr/lib/systemd/system/default.target")
DESKTOP, HEADLESS = "graphical.target", "multi-user.target"


def check_power_mode(system: System) -> Finding:
    """Checks whether the board is in its fastest mode, by name."""
    board = system.board
    best = nvpmodel.fastest(board.power_modes)
    if best is None or board.power_mode is None:
        return Finding("power", UNKNOWN, "no modes in /etc/nvpmodel.conf, or the present one cannot be read")
    offered = ", ".join(f"{mode.id} {mode.name}" for mode in board.power_modes)
    if board.power_mode.rank >= best.rank:
        return Finding("power", OK, f"mode {board.power_mode.name}, the fastest of: {offered}")
    return Finding(
        "power",
        ADVICE,
        f"mode {board.power_mode.name}; the board has {offered}",
        f"sudo nvpmodel -m {best.id} ({best.name}; it may ask for a reboot)",
        (("nvpmodel", "-m", str(best.id)),),
    )


def check_clocks(system: System) -> Finding:
    """Checks whether the clocks of GPU and memory are locked at the mode's highest."""
    clocks = {"GPU": system.board.gpu, "EMC": system.board.emc}
    known = {name: clock for name, clock in clocks.items() if clock is not None and clock.is_locked is not None}
    if not known:
        return Finding("clocks", UNKNOWN, "neither the GPU's clock nor the memory's (EMC, root only) can be read")
    told = ", ".join(f"{name} {clock.now or 0:.0f} of {clock.highest:.0f} MHz" for name, clock in known.items())
    unknown = "" if len(known) == len(clocks) else "; EMC is read as root only (sudo)"
    if all(clock.is_locked for clock in known.values()):
        return Finding("clocks", OK, f"{told}{unknown}")
    return Finding(
        "clocks",
        ADVICE,
        f"{told}{unknown}: they follow the load, and figures vary with them",
        "for measuring, sudo jetson_clocks (until the next boot or mode)",
        (("jetson_clocks",),),
    )


def check_memory_clock(system: System) -> Finding:
    """Checks whether the power mode allows the module's highest memory clock: decoding is as fast as memory."""
    board = system.board
    allowed = board.emc.highest if board.emc else board.power_mode.emc_mhz if board.power_mode else None
    if board.module is None or allowed is None:
        return Finding("bandwidth", UNKNOWN, "the module or its highest memory clock (EMC, root only) is not known")
    now, best = board.module.gb_per_s(allowed), board.module.gb_per_s()
    if allowed >= board.module.emc_mhz * (1 - SLACK):
        return Finding("bandwidth", OK, f"memory up to {allowed:.0f} MHz, {now:.1f} GB/s")
    return Finding(
        "bandwidth",
        ADVICE,
        f"memory is held to {allowed:.0f} MHz: {now:.1f} of {best:.1f} GB/s, and decoding with it",
        "choose a faster power mode (see power)",
    )


def check_swap(system: System) -> Finding:
    """Checks whether a small board has swap on disk, and whether zram takes memory."""
    swaps = parse_swaps(read(system.root, "/proc/swaps") or "")
    on_disk = [swap for swap in swaps if not swap.is_zram]
    told = ", ".join(f"{swap.name} {swap.size_bytes / 2**30:.1f} GiB" for swap in swaps) or "no swap"
    memory = system.board.memory_gib
    remedies: list[str] = []
    commands: list[tuple[str, ...]] = []
    if len(on_disk) < len(swaps):
        remedies.append("zram takes the memory that it adds: sudo systemctl disable --now nvzramconfig, then reboot")
        commands.append(("systemctl", "disable", "--now", "nvzramconfig"))
    if not on_disk and memory is not None and memory <= SMALL_BOARD_GIB:
        remedies.append(f"a swap file of {SWAP_GIB} GiB for builds, on NVMe (the GPU's own memory never swaps)")
        commands += [
            ("fallocate", "-l", f"{SWAP_GIB}G", SWAP_FILE),
            ("chmod", "600", SWAP_FILE),
            ("mkswap", SWAP_FILE),
            ("swapon", SWAP_FILE),
        ]
    return Finding("swap", ADVICE if remedies else OK, told, "; ".join(remedies), tuple(commands))


def check_desktop(system: System) -> Finding:
    """Checks whether a desktop is started, which takes up to 865 MB."""
    for name in DEFAULT_TARGETS:
        try:
            target = os.path.basename(os.readlink(system.root / name.lstrip("/")))
        except OSError:
            continue
        if target != DESKTOP:
            return Finding("headless", OK, f"the board starts into {target}")
        return Finding(
            "headless",
            ADVICE,
            "the board starts a desktop, which takes up to 865 MB of the memory that the GPU has, too",
            f"sudo systemctl set-default {HEADLESS}, then reboot (back: {DESKTOP})",
            (("systemctl", "set-default", HEADLESS),),
            only_by_name=True,
        )
    return Finding("headless", UNKNOWN, "systemd's default target cannot be read")


def check_memory(system: System) -> Finding:
    """Checks how much memory is free, and in blocks of what size: the GPU's large allocations need large ones."""
    free = parse_meminfo(read(system.root, "/proc/meminfo") or "").get("MemAvailable")
    blocks = parse_buddyinfo(read(system.root, "/proc/buddyinfo") or "")
    if free is None or not blocks:
        return Finding("memory", UNKNOWN, "/proc/meminfo or /proc/buddyinfo cannot be read")
    large = sum(count * size // LARGE_BLOCK for size, count in blocks.items() if size >= LARGE_BLOCK)
    largest = max((size for size, count in blocks.items() if count), default=0)
    told = (
        f"{free / 2**30:.1f} GiB available; largest free blocks (lfb) {blocks.get(largest, 0)} x "
        f"{largest / 2**20:g} MiB"
    )
    if large >= FEW_BLOCKS:
        return Finding("memory", OK, told)
    return Finding(
        "memory",
        ADVICE,
        f"{told}: free memory is in small blocks",
        "free the page cache and let the kernel compact memory; a reboot does it for certain",
        (("sync",), ("sysctl", "-w", "vm.drop_caches=3"), ("sysctl", "-w", "vm.compact_memory=1")),
    )


def check_contiguous(system: System) -> Finding:
    """Checks whether the kernel's pool of contiguous memory is large enough for what builds are reported to request."""
    pool, l4t = read_contiguous(system.root), system.board.l4t or ""
    if pool.total is None:
        return Finding("cma", UNKNOWN, "CmaTotal is not in /proc/meminfo")
    told = f"CmaTotal {pool.total / 2**20:.0f} MiB, CmaFree {(pool.free or 0) / 2**20:.0f} MiB"
    told += f", started with {PARAMETER}={pool.started}" if pool.started else ""
    if pool.waits_for_reboot:
        text = f"{told}; {extlinux.FILE} has {PARAMETER}={pool.configured}, which counts from the next start"
        again = "a board that does not read this file (its boot mode is in the UEFI menu) needs another way"
        return Finding("cma", ADVICE, text, f"sudo reboot; {again}")
    if pool.total == 0 and pool.started:
        text = f"{told}: the kernel found no place for it, so that there is none"
        return Finding("cma", PROBLEM, text, *_remedy(pool), only_by_name=True)
    if pool.total >= RECOMMENDED_BYTES:
        return Finding("cma", OK, told)
    if l4t in FAILURES and FAILURES[l4t].of_builds:
        text = f"{told}: builds failed with so little on L4T {l4t}; see what --bundle DIR predicts"
        return Finding("cma", ADVICE, text, *_remedy(pool), only_by_name=True)
    if report := builds_worked(l4t):
        return Finding("cma", OK, f"{told}; {report}")
    if l4t and is_before_failures(l4t):
        return Finding("cma", OK, f"{told}; no build is reported to have wanted more on L4T {l4t} or older")
    return Finding("cma", UNKNOWN, f"{told}; nothing is reported of builds on L4T {l4t or 'unknown'}")


def _remedy(pool: ContiguousMemory) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """Remedy for a larger pool, and its command; none where the boot loader's file cannot be changed here."""
    if pool.refusal:
        return f"{SET_CMA} on the kernel's command line, by hand: {extlinux.FILE}: {pool.refusal}", ()
    # By its path: root has neither this environment's console scripts nor, in a clone, the package.
    change = (sys.executable, "-B", str(extlinux.__file__), SET_CMA)
    return (
        f"{command('jetson/doctor.py', '--apply', 'cma')} (adds {SET_CMA} to {extlinux.FILE}, keeps the old file "
        "beside it and prints the command that restores it), then sudo reboot; tried so far on an Orin Nano 8GB alone",
        (change,),
    )


def check_disk(system: System) -> Finding:
    """Checks whether there is disk space for a bundle and its engines."""
    if system.free_disk_bytes is None:
        return Finding("disk", UNKNOWN, "not known of a copied tree")
    told = f"{system.free_disk_bytes / 1e9:.1f} GB free"
    if system.free_disk_bytes >= NEEDED_DISK:
        return Finding("disk", OK, told)
    return Finding(
        "disk",
        PROBLEM,
        told,
        f"V2-1.7B in fp16 takes {NEEDED_DISK / 1e9:.0f} GB to build: make room, or use an NVMe disk",
    )


CHECKS = (
    check_power_mode,
    check_clocks,
    check_memory_clock,
    check_memory,
    check_contiguous,
    check_swap,
    check_desktop,
    check_disk,
)
