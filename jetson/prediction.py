"""Whether a prepared bundle will build and run on a board: what each need takes, what there is, and what to do."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilevlm.commands import localized
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER

from .contiguous import read_contiguous
from .findings import ADVICE, OK, PROBLEM, UNKNOWN, Patient
from .footprint import BUILD_PER_WEIGHT, Footprint, context_that_fits, footprint, pieces_that_fit
from .memory import parse_meminfo, parse_swaps
from .releases import FAILURES, builds_worked, is_before_failures
from .sysfs import ROOT, read

APPLY = "python jetson/doctor.py --apply"
MAKE_ROOM = "close other programs, sudo systemctl isolate multi-user.target, sudo sysctl -w vm.drop_caches=3"
OTHER_BOARD = "this model needs a board with more memory: python jetson/limits.py lists them"
SHORTEST_CONTEXT = 512  # that is still of use: a picture, a question, an answer


@dataclass(frozen=True)
class Prediction:
    """One need of a bundle and whether a board meets it.

    Attributes:
        name: of the need.
        verdict: as a finding's status: `ok`, `unknown`, `advice` (it may fail), `problem` (it will).
        needed_bytes: for it; None where there is nothing to do.
        available_bytes: on the board at the moment; None where that is not known.
        text: what is needed and what is there, for people.
        remedy: what to do, with the command; empty where nothing is to be done.
    """

    name: str
    verdict: str
    needed_bytes: int | None
    available_bytes: int | None
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        line = f"{self.verdict:8} {self.name}: {self.text}"
        return f"{line}\n{'':9}-> {self.remedy}" if self.remedy else line


@dataclass(frozen=True)
class Memory:
    """A board's memory in bytes; None where it is not told.

    Attributes:
        available: without swapping.
        total: that the system has.
        swap: on disk.
    """

    available: int | None
    total: int | None
    swap: int


def predict(patient: Patient, bundle: Bundle) -> list[Prediction]:
    """What a bundle needs and whether it is there, first to build its engines, then to run them.

    Raises:
        BundleError: the bundle is for another target, or of another version.
    """
    found, memory = footprint(bundle), _memory(patient)
    if not found.unbuilt:
        return [Prediction("build", OK, None, None, "all engines are made"), _running(bundle, found, memory)]
    lines = [_building(bundle, found, memory)]
    if list(bundle.manifest.parts)[-1] in found.unbuilt:
        lines.append(_contiguous(patient, found))
    return [*lines, _disk(patient, bundle, found), _running(bundle, found, memory)]


def _memory(patient: Patient) -> Memory:
    sizes = parse_meminfo(read(patient.root, "/proc/meminfo") or "")
    swaps = parse_swaps(read(patient.root, "/proc/swaps") or "")
    return Memory(
        sizes.get("MemAvailable"), sizes.get("MemTotal"), sum(swap.size_bytes for swap in swaps if not swap.is_zram)
    )


def _building(bundle: Bundle, found: Footprint, memory: Memory) -> Prediction:
    """Memory that the largest engine takes to be built: each has a process of its own."""
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
        remedy = MAKE_ROOM if memory.swap else f"{MAKE_ROOM}, {APPLY} swap"
        return Prediction("build memory", ADVICE, needed, memory.available, text, remedy)
    if part in bundle.manifest.parts and (pieces := pieces_that_fit(bundle, limit)):
        remedy = _again(bundle, ["--blocks", str(pieces)])
    elif bundle.manifest.precision[DECODER] != "int4":
        remedy = _again(bundle, ["--precision", "int4"])
    else:
        remedy = OTHER_BOARD if memory.swap else f"{APPLY} swap; otherwise, {OTHER_BOARD}"
    return Prediction("build memory", PROBLEM, needed, memory.available, text, remedy)


def _contiguous(patient: Patient, found: Footprint) -> Prediction:
    """The largest piece of memory that the build asks for at once, against the kernel's pool."""
    pool, l4t, needed = read_contiguous(patient.root), patient.board.l4t or "", found.head
    text = f"building the decoder's head asks for up to {gigabytes(needed)} in one piece"
    if pool.total is None or pool.free is None:
        return Prediction("contiguous memory", UNKNOWN, needed, None, f"{text}; CmaTotal is not in /proc/meminfo")
    text += f"; the pool has {gigabytes(pool.total)}, {gigabytes(pool.free)} free"
    if needed <= pool.free:
        return Prediction("contiguous memory", OK, needed, pool.free, text)
    larger = f"{APPLY} cma, then sudo reboot (--blocks does not help: it cuts between layers, the head stays whole)"
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


def _disk(patient: Patient, bundle: Bundle, found: Footprint) -> Prediction:
    """Room for engines and the timing cache, beside the bundle."""
    needed = found.disk
    text = f"{len(found.unbuilt)} engines and the timing cache take {gigabytes(needed)}"
    if patient.root != ROOT:
        return Prediction("disk", UNKNOWN, needed, None, f"{text}; a copied tree does not tell what is free")
    free = shutil.disk_usage(bundle.directory).free
    text += f"; {gigabytes(free)} free"
    if needed <= free:
        return Prediction("disk", OK, needed, free, text)
    room = shlex.join(["du", "-xh", "--max-depth=2", str(bundle.directory.parent)])
    remedy = f"make room (what takes it: {room}) or copy the bundle to an NVMe disk"
    return Prediction("disk", PROBLEM, needed, free, text, remedy)


def _running(bundle: Bundle, found: Footprint, memory: Memory) -> Prediction:
    """Memory while it answers; the GPU's share of it never swaps."""
    needed = found.running
    text = (
        f"running takes {gigabytes(needed)}: engines {gigabytes(sum(found.engines.values()))}, cache of "
        f"{bundle.manifest.max_context} rows {gigabytes(found.cache)}, activations {gigabytes(found.activations)}, "
        "and what TensorRT and Python take"
    )
    if memory.available is None or memory.total is None:
        return Prediction("run memory", UNKNOWN, needed, None, f"{text}; /proc/meminfo does not tell what there is")
    text += f"; {gigabytes(memory.available)} of {gigabytes(memory.total)} available"
    if needed <= memory.available:
        return Prediction("run memory", OK, needed, memory.available, text)
    if needed <= memory.total:
        return Prediction("run memory", ADVICE, needed, memory.available, text, MAKE_ROOM)
    rows = context_that_fits(bundle, found, memory.total)
    if bundle.manifest.precision[DECODER] != "int4":
        remedy = _again(bundle, ["--precision", "int4"])
    elif rows >= SHORTEST_CONTEXT:
        remedy = _again(bundle, ["--max-context", str(rows)])
    else:
        remedy = OTHER_BOARD
    return Prediction("run memory", PROBLEM, needed, memory.available, text, remedy)


def _again(bundle: Bundle, options: Sequence[str]) -> str:
    """The command that prepares a bundle once more, with another value of an option."""
    words = shlex.split(bundle.manifest.command)
    if options[0] in words:
        index = words.index(options[0])
        words[index : index + 2] = []
    return f"where PyTorch is: {localized(shlex.join([*words, *options]))}"


def gigabytes(size: float) -> str:
    """A size for people: `1.75 GB`, below one `393 MB`."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
