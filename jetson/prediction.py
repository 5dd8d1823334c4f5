"""Predicts whether a prepared bundle will build and run on a board: needs, what is available, and remedies."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilevlm.commands import command, localized
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER
from mobilevlm.engines.targets import TARGETS

from .contiguous import read_contiguous
from .findings import ADVICE, OK, PROBLEM, UNKNOWN, System
from .footprint import BUILD_PER_WEIGHT, Footprint, context_that_fits, footprint, pieces_that_fit
from .memory import parse_meminfo, parse_swaps
from .releases import FAILURES, builds_worked, is_before_failures
from .sysfs import ROOT, read

MAKE_ROOM = "close other programs, sudo systemctl isolate multi-user.target, sudo sysctl -w vm.drop_caches=3"
OTHER_BOARD = f"this model needs a board with more memory: {command('jetson/limits.py')} lists them"
SHORTEST_CONTEXT = 512  # tokens; shorter ones hold no image, question and answer


@dataclass(frozen=True)
class Prediction:
    """One need of a bundle and whether a board meets it.

    Attributes:
        name: name of the need.
        verdict: as a finding's status: `ok`, `unknown`, `advice` (it may fail), `problem` (it will fail).
        needed_bytes: None where there is nothing to do.
        available_bytes: on the board at the moment; None where that is not known.
        text: what is needed and what is available, for people.
        remedy: what to do, with the command; empty where nothing is to be done.
    """

    name: str
    verdict: str
    needed_bytes: int | None
    available_bytes: int | None
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the fields for `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.verdict:8} {self.name}: {self.text}"
        return f"{line}\n{'':9}-> {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Memory:
    """A board's memory in bytes; None where it is not told.

    Attributes:
        available: without swapping.
        total: of the system.
        swap: size of the swap on disk.
    """

    available: int | None
    total: int | None
    swap: int


def predict(system: System, bundle: Bundle) -> list[Prediction]:
    """Compares what a bundle needs with a board, first to build its engines, then to run them.

    Args:
        system: the board.
        bundle: prepared for TensorRT on a Jetson.

    Raises:
        BundleError: the bundle is for another target, or of another version.
    """
    found, memory = footprint(bundle), _memory(system)
    if not found.unbuilt:
        return [Prediction("build", OK, None, None, "all engines are made"), _running(bundle, found, memory)]
    lines = [_building(bundle, found, memory)]
    if list(bundle.manifest.parts)[-1] in found.unbuilt:
        lines.append(_contiguous(system, found))
    return [*lines, _disk(system, bundle, found), _running(bundle, found, memory)]


def _memory(system: System) -> Memory:
    sizes = parse_meminfo(read(system.root, "/proc/meminfo") or "")
    swaps = parse_swaps(read(system.root, "/proc/swaps") or "")
    return Memory(
        sizes.get("MemAvailable"), sizes.get("MemTotal"), sum(swap.size_bytes for swap in swaps if not swap.is_zram)
    )


def _building(bundle: Bundle, found: Footprint, memory: Memory) -> Prediction:
    """Memory to build the largest engine: each is built in a separate process."""
    part = max(found.unbuilt, key=found.build.__getitem__)
    needed = found.build[part]
    text = (
        f"building {part} takes {gigabytes(needed)}, {BUILD_PER_WEIGHT} x its {gigabytes(found.weights[part])} and more"
    )
    if memory.available is None or memory.total is None:
        return Prediction("build memory", UNKNOWN, needed, None, f"{text}; /proc/meminfo does not tell what there is")
    text += f"; {gigabytes(memory.available)} of {gigabytes(memory.total)} available"
    if needed <= memory.available:
        return Prediction("build memory", OK, needed, memory.available, text)
    limit = memory.total + memory.swap
    if memory.swap:
        text += f", {gigabytes(memory.swap)} of swap on disk"
    if needed <= limit:
        remedy = MAKE_ROOM if memory.swap else f"{MAKE_ROOM}, {_apply('swap')}"
        return Prediction("build memory", ADVICE, needed, memory.available, text, remedy)
    if part in bundle.manifest.parts and (pieces := pieces_that_fit(bundle, limit)):
        remedy = _again(bundle, ["--blocks", str(pieces)])
    elif bundle.manifest.precision[DECODER] != (smallest := _smallest(bundle)):
        remedy = _again(bundle, ["--precision", smallest])
    else:
        remedy = OTHER_BOARD if memory.swap else f"{_apply('swap')}; otherwise, {OTHER_BOARD}"
    return Prediction("build memory", PROBLEM, needed, memory.available, text, remedy)


def _contiguous(system: System, found: Footprint) -> Prediction:
    """The largest block of memory that the build requests at once, against the kernel's pool."""
    pool, l4t, needed = read_contiguous(system.root), system.board.l4t or "", found.head
    text = f"building the decoder's head requests up to {gigabytes(needed)} in one block"
    if pool.total is None or pool.free is None:
        return Prediction("contiguous memory", UNKNOWN, needed, None, f"{text}; CmaTotal is not in /proc/meminfo")
    text += f"; the pool has {gigabytes(pool.total)}, {gigabytes(pool.free)} free"
    if needed <= pool.free:
        return Prediction("contiguous memory", OK, needed, pool.free, text)
    larger = f"{_apply('cma')}, then sudo reboot (--blocks does not help: it cuts between layers, the head stays whole)"
    if l4t in FAILURES and FAILURES[l4t].of_builds or not pool.total:
        if needed > pool.total:
            remedy = "sudo reboot: a larger pool waits for it" if pool.waits_for_reboot else larger
            return Prediction("contiguous memory", PROBLEM, needed, pool.free, f"{text}: too little", remedy)
        remedy = f"sudo reboot and build first; if that fails, {larger}"
        return Prediction("contiguous memory", ADVICE, needed, pool.free, f"{text}: too little at the moment", remedy)
    if report := builds_worked(l4t):
        return Prediction("contiguous memory", OK, needed, pool.free, f"{text}; {report}")
    if l4t and is_before_failures(l4t):
        text += f"; no failure is reported of L4T {l4t} or older"
        return Prediction("contiguous memory", OK, needed, pool.free, text)
    text += f"; nothing is reported of builds on L4T {l4t or 'unknown'}"
    return Prediction("contiguous memory", UNKNOWN, needed, pool.free, text, f"if the build fails, {larger}")


def _disk(system: System, bundle: Bundle, found: Footprint) -> Prediction:
    """Disk space for engines and the timing cache, beside the bundle."""
    needed = found.disk
    text = f"{len(found.unbuilt)} engines and the timing cache take {gigabytes(needed)}"
    if system.root != ROOT:
        return Prediction("disk", UNKNOWN, needed, None, f"{text}; a copied tree does not tell what is free")
    free = shutil.disk_usage(bundle.directory).free
    text += f"; {gigabytes(free)} free"
    if needed <= free:
        return Prediction("disk", OK, needed, free, text)
    room = shlex.join(["du", "-xh", "--max-depth=2", str(bundle.directory.parent)])
    remedy = f"make room (what takes it: {room}) or copy the bundle to an NVMe disk"
    return Prediction("disk", PROBLEM, needed, free, text, remedy)


def _running(bundle: Bundle, found: Footprint, memory: Memory) -> Prediction:
    """Memory while it answers; the GPU's part of it is never swapped."""
    needed = found.running
    text = (
        f"running takes {gigabytes(needed)}: engines {gigabytes(sum(found.engines.values()))}, cache of "
        f"{bundle.manifest.max_context} tokens {gigabytes(found.cache)}, activations {gigabytes(found.activations)}, "
        "and what TensorRT and Python take"
    )
    if memory.available is None or memory.total is None:
        return Prediction("run memory", UNKNOWN, needed, None, f"{text}; /proc/meminfo does not tell what there is")
    text += f"; {gigabytes(memory.available)} of {gigabytes(memory.total)} available"
    if needed <= memory.available:
        return Prediction("run memory", OK, needed, memory.available, text)
    if needed <= memory.total:
        return Prediction("run memory", ADVICE, needed, memory.available, text, MAKE_ROOM)
    tokens = context_that_fits(bundle, found, memory.total)
    if bundle.manifest.precision[DECODER] != (smallest := _smallest(bundle)):
        remedy = _again(bundle, ["--precision", smallest])
    elif tokens >= SHORTEST_CONTEXT:
        remedy = _again(bundle, ["--max-context", str(tokens)])
    else:
        remedy = OTHER_BOARD
    return Prediction("run memory", PROBLEM, needed, memory.available, text, remedy)


def _apply(name: str) -> str:
    """The command that applies the remedy of a finding."""
    return command("jetson/doctor.py", "--apply", name)


def _smallest(bundle: Bundle) -> str:
    """The decoder's precision with the least bytes that the bundle's target has."""
    return TARGETS[bundle.manifest.target].precisions[DECODER][-1]


def _again(bundle: Bundle, options: Sequence[str]) -> str:
    """The command that prepares a bundle again, with another value of an option."""
    words = shlex.split(bundle.manifest.command)
    if options[0] in words:
        index = words.index(options[0])
        words[index : index + 2] = []
    return f"on the machine with PyTorch: {localized(shlex.join([*words, *options]))}"


def gigabytes(size: float) -> str:
    """Formats a size: `1.75 GB`, below one `393 MB`."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
