"""Kernels of an engine, read from the listing that TensorRT-RTX's builder logs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[.*?Outputs: \[(?P<outputs>.*?)\], TacticName:"
)
OUTPUT = re.compile(r"Name: .*?, Dimensions: \[(?P<sizes>.*?)\]")
PROFILE = re.compile(r"_myl(?P<profile>\d+)_\d+$")
ATTENTION = "mha"  # in the names of its kernels


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        name: the builder's.
        kind: such as `gemm`, or `kgen` for one that was generated.
        profile: index of the optimization profile that it belongs to.
        largest: elements of its largest output; 0 where a dimension is not fixed.
    """

    name: str
    kind: str
    profile: int
    largest: int

    @property
    def is_attention(self) -> bool:
        """Whether it is attention as a whole."""
        return ATTENTION in self.name


def kernels(listing: str) -> list[Kernel]:
    """Read a listing, a line for each kernel."""
    found = []
    for line in listing.splitlines():
        if (match := LINE.match(line)) is None:
            continue
        sizes = [[int(size) for size in one.split(",")] for one in OUTPUT.findall(match["outputs"])]
        profile = PROFILE.search(match["name"])
        largest = max((prod(one) if min(one) >= 0 else 0 for one in sizes), default=0)
        found.append(Kernel(match["name"], match["kind"], int(profile["profile"]) if profile else 0, largest))
    return found


def count(of: Iterable[Kernel], profile: int, cache_elements: int) -> tuple[int, int, int]:
    """Kernels of a profile, those that are attention, and those that write a whole cache without being it.

    Args:
        of: all kernels of an engine.
        profile: index.
        cache_elements: of the keys or values of one layer.
    """
    own = [kernel for kernel in of if kernel.profile == profile]
    attention = sum(kernel.is_attention for kernel in own)
    return len(own), attention, sum(kernel.largest >= cache_elements and not kernel.is_attention for kernel in own)
