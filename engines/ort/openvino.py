"""Graphs of precision `int8_amx` on OpenVINO, which has kernels for an Intel CPU's matrix unit, AMX.

API: https://docs.openvino.ai/2026/api/ie_python_api/api.html
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilevlm.errors import UserError
from mobilevlm.pages import trim_heap

from ..stages import PREFILL

if TYPE_CHECKING:
    import openvino

    Requests = cycle[openvino.InferRequest]  # two of a compiled graph, which share all but inputs and outputs

# Most tokens of a prompt at a time: memory for activations grows with them, and stays allocated.
MOST_ROWS = 256
WITHOUT = "--precision vision=int8,prefill=int8,decoder=int4"


def is_installed() -> bool:
    """Tells whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def require_package(wanted_by: Path | str) -> None:
    """Refuses a graph that cannot run here.

    Args:
        wanted_by: names it in the message.

    Raises:
        UserError: OpenVINO is not installed.
    """
    if not is_installed():
        raise UserError(
            f"{wanted_by} runs on OpenVINO, which is not installed: pip install 'mobilevlm[amx]', or build with "
            f"{WITHOUT}, which needs ONNX Runtime alone"
        )


class SharedModels:
    """Shares one compiled model between graphs that differ only in weights. Running such graphs is not thread-safe."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str], Requests] = {}
        self._lock = Lock()

    def requests(self, model: openvino.Model, settings: Mapping[str, Any]) -> Requests:
        """Returns what runs a graph, compiled for the first graph of its form.

        Args:
            model: the graph, whose weights are inputs.
            settings: of OpenVINO's compiler.
        """
        from .openvino_layers import form_of

        form = form_of(model), str(settings)
        with self._lock:
            if form not in self._requests:
                self._requests[form] = _compiled(model, settings)
            return self._requests[form]


def open_stage(path: Path, stage: str, shared: SharedModels, profile_to: Path | None = None) -> OpenVinoGraph:
    """Opens a graph as its stage needs it: the layers of a prefill share a compiled model.

    An image's rows, nearly three times a usual prompt's, run faster in bfloat16; a prompt's run as fast in float32.

    Args:
        path: the ONNX file.
        stage: that it belongs to.
        shared: compiled models of the same bundle.
        profile_to: see `OpenVinoGraph`.
    """
    is_prefill = stage == PREFILL
    return OpenVinoGraph(path, shared if is_prefill else None, in_float32=is_prefill, profile_to=profile_to)


class OpenVinoGraph:
    """One graph, compiled here; used like ONNX Runtime's `InferenceSession`.

    Args:
        path: the ONNX file, its weights beside it.
        shared: compiled models that it may share, all its weights being inputs then; None for a model of its own, most
            of whose weights are copied into a faster layout.
        in_float32: whether what is not int8 is float32, even where bfloat16 is faster.
        profile_to: file for the times of all runs, in the form of ONNX Runtime's profiles; None for none.

    Raises:
        UserError: OpenVINO is not installed, or refuses the file.
    """

    def __init__(self, path: Path, shared: SharedModels | None, in_float32: bool, profile_to: Path | None = None):
        require_package(path)
        from .openvino_layers import in_place, is_long, is_weight, weights_as_inputs
        from .openvino_package import openvino

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": profile_to is not None}
        if in_float32:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = _core().read_model(path)
            self._inputs, self._outputs = (
                {port.any_name: number for number, port in enumerate(ports)} for ports in (model.inputs, model.outputs)
            )
            self._constants = weights_as_inputs(model, is_weight if shared else is_long)
            self._weights = {number: in_place(constant) for number, constant in self._constants.items()}
            self._requests = shared.requests(model, settings) if shared else _compiled(model, settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"OpenVINO {openvino.__version__} cannot load {path}: {reason}. Build the bundle again, or with "
                f"{WITHOUT}, which needs ONNX Runtime alone"
            ) from None
        self._profile_to = profile_to
        self._events: list[dict[str, Any]] = []

    def run(self, outputs: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs the graph once.

        Args:
            outputs: names of the outputs to return.
            feed: all inputs, by name.

        Returns:
            Views of memory that the run after the next, of this graph or one that shares its model, overwrites: the
            next run may read them.
        """
        begin = time.perf_counter()
        values = {self._inputs[name]: np.ascontiguousarray(value) for name, value in feed.items()}
        request = next(self._requests)
        results = request.infer(self._weights | values, share_inputs=True, share_outputs=True)
        if self._profile_to is not None:
            self._events += _events(request, begin, time.perf_counter())
            self._profile_to.write_text(json.dumps(self._events))
        return [results[self._outputs[name]] for name in outputs]


def _events(request: openvino.InferRequest, begin: float, end: float) -> list[dict[str, Any]]:
    """Events of a run in the form of ONNX Runtime's profiles; times in seconds in, in microseconds out."""
    run = {"name": "model_run", "ts": begin * 1e6, "dur": (end - begin) * 1e6}
    nodes = [
        {"cat": "Node", "name": one.node_name, "ts": run["ts"], "dur": one.real_time.total_seconds() * 1e6}
        | {"args": {"op_name": one.node_type}}
        for one in request.get_profiling_info()
        if one.real_time
    ]
    return [run, *nodes]


@cache
def _core() -> openvino.Core:
    from .openvino_package import openvino

    return openvino.Core()


def _compiled(model: openvino.Model, settings: Mapping[str, Any]) -> Requests:
    compiled = _core().compile_model(model, "CPU", dict(settings))
    trim_heap()  # compiling took much of it
    return cycle([compiled.create_infer_request() for _ in range(2)])
