"""Parses free memory, sizes of free blocks, and swap from the files of /proc."""

from __future__ import annotations

import re
from dataclasses import dataclass

PAGE_BYTES = 4096  # of every Jetson's kernel


@dataclass(frozen=True)
class Swap:
    """One swap file or device.

    Attributes:
        name: path of the file or device.
        size_bytes, used_bytes: its size, and how much of it is in use.
    """

    name: str
    size_bytes: int
    used_bytes: int

    @property
    def is_zram(self) -> bool:
        """Whether it is compressed memory, which takes from the memory that it adds to."""
        return "zram" in self.name


def parse_meminfo(text: str) -> dict[str, int]:
    """Parses `/proc/meminfo`: name to bytes."""
    return {name: int(kib) * 1024 for name, kib in re.findall(r"(?m)^(\w+):\s+(\d+) kB$", text)}


def parse_swaps(text: str) -> list[Swap]:
    """Parses `/proc/swaps`, whose sizes are in KiB."""
    rows = re.findall(r"(?m)^(/\S+)\s+\S+\s+(\d+)\s+(\d+)", text)
    return [Swap(name, int(size) * 1024, int(used) * 1024) for name, size, used in rows]


def parse_buddyinfo(text: str) -> dict[int, int]:
    """Parses `/proc/buddyinfo`: size of a free block in bytes to the number of such blocks, over all zones.

    Column k counts free blocks of 2^k pages; tegrastats calls the largest size with any of them lfb.
    """
    blocks: dict[int, int] = {}
    for counts in re.findall(r"(?m)^Node \d+, zone\s+\S+\s+([\d ]+)$", text):
        for order, count in enumerate(counts.split()):
            size = PAGE_BYTES << order
            blocks[size] = blocks.get(size, 0) + int(count)
    return blocks
