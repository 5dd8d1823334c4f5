"""TensorRT-RTX as a judge of graphs: NVIDIA's parser and builder in a wheel, for named GPUs, without a GPU.

It shares parser, typing, shape checks and fusion with the TensorRT of a Jetson; not the kernels of matrix products,
which are chosen on the GPU, nor timing and memory of a build. Loading an engine needs a GPU.
API: https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/index.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from mobilevlm.errors import UserError

from ..machine import peak_rss_bytes
from .builder import add_profiles, make_config, network_flags
from .library import RTX, import_tensorrt
from .listing import Kernel, kernels
from .named_gpus import NamedGpus
from .profiles import Profile

CAPABILITY = "SM86"  # the nearest to Orin's 8.7 that can be named
ALL = "all"  # GPUs from SM80 on, with one engine
WEIGHTS = re.compile(r"Total Weights Memory: (\d+) bytes")


@dataclass(frozen=True)
class Judgement:
    """Result of parsing and building a graph with NVIDIA's builder.

    Attributes:
        version: of TensorRT-RTX.
        problems: the parser's and builder's errors; empty where an engine was built.
        warnings: their warnings.
        kernels: of the engine.
        weight_bytes: memory of the engine's weights.
        seconds: duration of parsing and building.
        engine_bytes: size of the engine's file.
        peak_bytes: peak memory of the process, mapped files included.
    """

    version: str
    problems: list[str]
    warnings: list[str]
    kernels: list[Kernel] = field(default_factory=list)
    weight_bytes: int = 0
    seconds: float = 0.0
    engine_bytes: int = 0
    peak_bytes: int = 0


def judge(path: Path, profiles: Sequence[Profile], capability: str = CAPABILITY) -> Judgement:
    """Parses and builds an ONNX file, whose weights may lie beside it.

    Args:
        path: of the file.
        profiles: optimization profiles; none for a graph whose sizes are all fixed.
        capability: of the GPU that the engine is for, such as `SM86`, or `ALL`.

    Raises:
        UserError: TensorRT-RTX is not installed, does not know the capability, or refuses a profile.
    """
    trt, begin = import_tensorrt(RTX), time.perf_counter()
    lines = _Lines(trt)
    builder = trt.Builder(lines.logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, lines.logger)
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        return Judgement(trt.__version__, [f"{error.node_name()}: {error.desc()}" for error in errors], lines.warnings)
    config = make_config(trt, builder, NamedGpus([] if capability == ALL else [capability]))
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if problem := add_profiles(builder, network, config, profiles):
        raise UserError(f"TensorRT-RTX does not take the profiles of {path.name}: {problem}")
    engine = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - begin
    if engine is None:
        return Judgement(trt.__version__, lines.of("ERROR", "INTERNAL_ERROR"), lines.warnings, seconds=seconds)
    weights = WEIGHTS.search("\n".join(lines.of("INFO")))
    listing = next((line for line in lines.of("VERBOSE", "INFO") if line.startswith("Layers:")), "")
    return Judgement(
        trt.__version__,
        [],
        lines.warnings,
        kernels(listing),
        int(weights[1]) if weights else 0,
        seconds,
        engine.nbytes,
        peak_rss_bytes(),
    )


class _Lines:
    """Lines of TensorRT-RTX's log.

    Args:
        trt: TensorRT-RTX's module.

    Attributes:
        logger: an `ILogger` for its builder.
    """

    def __init__(self, trt: ModuleType):
        lines: list[tuple[str, str]] = []

        class Logger(trt.ILogger):  # type: ignore[name-defined]  # the module is known at run time only
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                lines.append((severity.name, msg))

        self.logger, self._lines = Logger(), lines

    def of(self, *severities: str) -> list[str]:
        """Returns the lines of these severities."""
        return [line for severity, line in self._lines if severity in severities]

    @property
    def warnings(self) -> list[str]:
        """The warnings."""
        return self.of("WARNING")
