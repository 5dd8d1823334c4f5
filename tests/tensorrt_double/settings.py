"""What the double pretends to be; in a process of its own it is told by an environment variable."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field

VARIABLE = "TENSORRT_DOUBLE"


class Violation(AssertionError):
    """Something that real hardware leaves undefined or gets wrong without a word."""


@dataclass
class Settings:
    """One machine.

    Attributes:
        version: of TensorRT: 10.3.0, 10.16.2, 11.4.1 ...
        capability: of the GPU.
        memory_bytes: that it has.
        integrated: whether these are the machine's own, as on a Jetson.
        fail_build: text to say, when a network whose file has `fail_build[0]` in its name is built.
        step_seconds: that each step of a build takes.
        capturable: whether engines can be captured into CUDA graphs.
        fail_enqueue: how many calls of `execute_async_v3` succeed before one fails; None for all.
        fail_copy: the same of `cudaMemcpy2DAsync`.
        lose: how many strided copies are done before one spoils the GPU's state, so that every call fails from then on.
        rtx: whether TensorRT-RTX is there in place of TensorRT.
        real: whether NVIDIA's own builder (TensorRT-RTX) is there in place of the double's.
    """

    version: str = "10.3.0"
    capability: tuple[int, int] = (8, 7)
    memory_bytes: int = 8 << 30
    integrated: bool = True
    fail_build: tuple[str, str] | None = None
    step_seconds: float = 0.0
    capturable: bool = True
    fail_enqueue: int | None = None
    fail_copy: int | None = None
    lose: int | None = None
    rtx: bool = False
    real: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, by: int = 1) -> None:
        """Note that something was done: tests ask how often, or how much."""
        self.counts[what] = self.counts.get(what, 0) + by

    def as_environment(self) -> dict[str, str]:
        """For a process that shall pretend the same."""
        return {VARIABLE: json.dumps({k: v for k, v in asdict(self).items() if k != "counts"})}


def from_environment() -> Settings:
    """Of the process that started this one."""
    values = json.loads(os.environ.get(VARIABLE, "{}"))
    values["capability"] = tuple(values.get("capability", (8, 7)))
    return Settings(**values)
