"""Kernels of an engine and their counts, from the listing that TensorRT-RTX's builder logs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

LINE = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\]"
    r"(?:, Constants: \[(?P<constants>.*?)\])?, Outputs: \[(?P<outputs>.*?)\], TacticName:"
)
TENSOR = re.compile(
    r"\{ Name: (?P<name>[^{}]*?), Dimensions: \[(?P<sizes>[^]]*)\][^{}]*?(?:Format/)?Datatype: (?P<type>\w+)"
)
PROFILE = re.compile(r"_myl(?P<profile>\d+)_\d+$")
ATTENTION = "mha"  # in the names of its kernels
# RMS and layer norms in the names of fused kernels; with the cast to float32 in front.
NORM = re.compile(r"(?P<cast>Cast)?(?:MulMean|MeanSubMulMean)AddSqrt")
BITS = {"Double": 64, "Int64": 64, "Float": 32, "Int32": 32, "Half": 16, "BFloat16": 16, "Int4": 4, "FP4": 4}
OTHER_BITS = 8
FEWEST_WEIGHTS = 2**15  # of a product's matrix: smaller constants are gains, scales and tables


@dataclass(frozen=True)
class KernelTensor:
    """A tensor that a kernel reads or writes.

    Attributes:
        name: the builder's.
        elements: 0 where a dimension is not fixed.
        dtype: such as `Half`.
    """

    name: str
    elements: int
    dtype: str

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.elements * BITS.get(self.dtype, OTHER_BITS) // 8


@dataclass(frozen=True)
class Kernel:
    """A kernel launch.

    Attributes:
        name: the builder's.
        kind: such as `gemm`, or `kgen` for one that was generated.
        profile: index of the optimization profile that it belongs to.
        inputs, constants, outputs: tensors that it reads and writes; TensorRT-RTX before 1.5 lists no constants.
    """

    name: str
    kind: str
    profile: int
    inputs: tuple[KernelTensor, ...]
    constants: tuple[KernelTensor, ...]
    outputs: tuple[KernelTensor, ...]

    @property
    def is_attention(self) -> bool:
        """Whether it is a fused attention kernel."""
        return ATTENTION in self.name

    @property
    def largest(self) -> int:
        """Elements of its largest output; 0 where a dimension is not fixed."""
        return max((one.elements for one in self.outputs), default=0)

    @property
    def weights(self) -> KernelTensor | None:
        """The stored matrix that it multiplies by; None where it is no such product."""
        found = max(self.constants, key=lambda one: one.elements, default=None)
        return found if found is not None and found.elements >= FEWEST_WEIGHTS else None

    @property
    def moved(self) -> int:
        """Bytes that it reads and writes, each tensor once."""
        return sum({one.name: one.size for one in (*self.inputs, *self.constants, *self.outputs)}.values())


@dataclass(frozen=True)
class Count:
    """Counts of the kernels of one optimization profile.

    Attributes:
        kernels: all kernels.
        attention: fused attention kernels.
        cache_copies: other kernels whose output is as large as a layer's keys.
        products: matrix products with stored weights, by the dtype these are read in.
        uncast_norms: norms without a cast to float32 in front; in float16 graphs, norms that are computed in float16.
        moved: bytes that all kernels read and write.
    """

    kernels: int
    attention: int
    cache_copies: int
    products: dict[str, int] = field(default_factory=dict)
    uncast_norms: int = 0
    moved: int = 0


def kernels(listing: str) -> list[Kernel]:
    """Reads a listing, a line for each kernel."""
    found = []
    for line in listing.splitlines():
        if (match := LINE.match(line)) is None:
            continue
        inputs, constants, outputs = (
            tuple(map(_tensor, TENSOR.finditer(match[group] or ""))) for group in ("inputs", "constants", "outputs")
        )
        profile = PROFILE.search(match["name"])
        number = int(profile["profile"]) if profile else 0
        found.append(Kernel(match["name"], match["kind"], number, inputs, constants, outputs))
    return found


def _tensor(match: re.Match[str]) -> KernelTensor:
    sizes = [int(size) for size in match["sizes"].split(",") if size]
    return KernelTensor(match["name"], prod(sizes) if min(sizes, default=0) >= 0 else 0, match["type"])


def count(of: Iterable[Kernel], profile: int, cache_elements: int) -> Count:
    """Counts the kernels of an optimization profile.

    Args:
        of: all kernels of an engine.
        profile: index of the profile.
        cache_elements: size of the keys, or values, of one layer.
    """
    own = [kernel for kernel in of if kernel.profile == profile]
    return Count(
        len(own),
        sum(kernel.is_attention for kernel in own),
        sum(kernel.largest >= cache_elements and not kernel.is_attention for kernel in own),
        dict(Counter(kernel.weights.dtype for kernel in own if kernel.weights)),
        sum(match["cast"] is None for kernel in own for match in NORM.finditer(kernel.name)),
        sum(kernel.moved for kernel in own),
    )
