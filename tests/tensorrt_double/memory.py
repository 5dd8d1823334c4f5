"""Device and pinned memory: host buffers with real addresses, that know whether they are still alive."""

from __future__ import annotations

import ctypes

import numpy as np

from .settings import Violation

ALIGNMENT = 512
POISON = 0xFF  # NaN as a float of any size


class Allocation:
    """So many bytes at an address."""

    def __init__(self, size: int, kind: str):
        self.size, self.kind, self.freed = size, kind, False
        self._owner = np.full(size + ALIGNMENT, POISON, np.uint8)
        start = self._owner.ctypes.data
        self.address = start + -start % ALIGNMENT

    def bytes(self, address: int, size: int) -> np.ndarray:
        """A part of it as uint8."""
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


class Memory:
    """All allocations of a device, and of the host's pinned memory.

    Freed ones are kept, so that no address is handed out twice and a stale pointer is known as one.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._allocations: list[Allocation] = []

    @property
    def used(self) -> int:
        """Bytes that are allocated."""
        return sum(one.size for one in self._allocations if not one.freed)

    @property
    def alive(self) -> list[Allocation]:
        """Those not freed."""
        return [one for one in self._allocations if not one.freed]

    def allocate(self, size: int, kind: str) -> int | None:
        """An address, or None when memory is short."""
        if self.used + size > self.capacity:
            return None
        self._allocations.append(Allocation(size, kind))
        return self._allocations[-1].address

    def free(self, address: int, kind: str) -> bool:
        """Whether there was such an allocation."""
        found = next((one for one in self.alive if one.address == address and one.kind == kind), None)
        if found is not None:
            found.freed = True
        return found is not None

    def view(self, address: int, size: int, kind: str | None = None) -> np.ndarray:
        """The uint8 bytes at an address.

        Raises:
            Violation: it is no memory of this kind, reaches over its end, or was freed.
        """
        inside = [one for one in self._allocations if one.address <= address < one.address + one.size]
        if not inside:
            raise Violation(f"{address:#x} is no address of device or pinned memory")
        found = inside[-1]
        if found.freed:
            raise Violation(f"{address:#x} was freed")
        if kind is not None and found.kind != kind:
            raise Violation(f"{address:#x} is {found.kind} memory, {kind} memory was wanted")
        if address + size > found.address + found.size:
            raise Violation(f"{size} bytes at {address:#x} reach over the end of their allocation of {found.size}")
        return found.bytes(address, size)


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (address, size) share a byte."""
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
