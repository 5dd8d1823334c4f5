"""Kernels of an engine, read from the listing that TensorRT-RTX's builder logs, and what they amount to."""

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
# RMS and layer norms in the names of what was fused; with the cast to float32 in front.
NORM = re.compile(r"(?P<cast>Cast)?(?:MulMean|MeanSubMulMean)AddSqrt")
BITS = {"Double": 64, "Int64": 64, "Float": 32, "Int32": 32, "Half": 16, "BFloat16": 16, "Int4": 4, "FP4": 4}
OTHER_BITS = 8
FEWEST_WEIGHTS = 2**15  # of a product's matrix: smaller constants are gains, scales and tables


@dataclass(frozen=True)
class Tensor:
    """What a kernel reads or writes.

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
        """Bytes."""
        return self.elements * BITS.get(self.dtype, OTHER_BITS) // 8


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        name: the builder's.
        kind: such as `gemm`, or `kgen` for one that was generated.
        profile: index of the optimization profile that it belongs to.
        inputs, constants, outputs: what it reads and writes; TensorRT-RTX before 1.5 lists no constants.
    """

    name: str
    kind: str
    profile: int
    inputs: tuple[Tensor, ...]
    constants: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def is_attention(self) -> bool:
        """Whether it is attention as a whole."""
        return ATTENTION in self.name

    @property
    def largest(self) -> int:
        """Elements of its largest output; 0 where a dimension is not fixed."""
        return max((one.elements for one in self.outputs), default=0)

    @property
    def weights(self) -> Tensor | None:
        """The matrix that it multiplies by; None where it is no product with a stored one."""
        found = max(self.constants, key=lambda one: one.elements, default=None)
        return found if found is not None and found.elements >= FEWEST_WEIGHTS else None

    @property
    def moved(self) -> int:
        """Bytes that it reads and writes."""
        return sum({one.name: one.size for one in (*self.inputs, *self.constants, *self.outputs)}.values())


@dataclass(frozen=True)
class Count:
    """Kernels of one optimization profile.

    Attributes:
        kernels: of them all.
        attention: that are attention as a whole.
        cache_copies: that write as much as a layer's keys without being it.
        products: with stored weights, by the type these are read in.
        uncast_norms: norms without a cast to float32 in front: of float16 graphs, those that are not computed in it.
        moved: bytes that they read and write.
    """

    kernels: int
    attention: int
    cache_copies: int
    products: dict[str, int] = field(default_factory=dict)
    uncast_norms: int = 0
    moved: int = 0


def kernels(listing: str) -> list[Kernel]:
    """Read a listing, a line for each kernel."""
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


def _tensor(match: re.Match[str]) -> Tensor:
    sizes = [int(size) for size in match["sizes"].split(",") if size]
    return Tensor(match["name"], prod(sizes) if min(sizes, default=0) >= 0 else 0, match["type"])


def count(of: Iterable[Kernel], profile: int, cache_elements: int) -> Count:
    """Count those of a profile.

    Args:
        of: all kernels of an engine.
        profile: index.
        cache_elements: of the keys or values of one layer.
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
