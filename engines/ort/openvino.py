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

    Turns = cycle[openvino.InferRequest]  # two requests of a compiled graph, which share all but inputs and outputs

# Rows of a prompt at a time: what a graph needs for values between operators grows with them, and stays with it.
MOST_ROWS = 256
WITHOUT = "--precision vision=int8,prefill=int8,decoder=int4"


def is_installed() -> bool:
    """Whether there is an OpenVINO to run graphs on."""
    return importlib.util.find_spec("openvino") is not None


def require_package(wanted_by: Path | str) -> None:
    """Refuse what cannot run here.

    Raises:
        UserError: OpenVINO is not installed.
    """
    if not is_installed():
        raise UserError(
            f"{wanted_by} runs on OpenVINO, which is not installed: pip install 'mobilevlm[amx]', or build with "
            f"{WITHOUT}, which needs ONNX Runtime alone"
        )


class Alike:
    """Compiles graphs that differ in their weights alone once; such graphs are not for several threads at once."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], Turns] = {}
        self._lock = Lock()

    def turns(self, model: openvino.Model, settings: Mapping[str, Any]) -> Turns:
        """What runs a graph whose weights are inputs, or another of its form."""
        from .openvino_layers import form_of

        form = form_of(model), str(settings)
        with self._lock:
            if form not in self._turns:
                self._turns[form] = _compiled(model, settings)
            return self._turns[form]


def open_stage(path: Path, stage: str, alike: Alike, profile_to: Path | None = None) -> OpenVinoGraph:
    """A stage's graph: of a prefill's, which are many, those that are alike are compiled once.

    A picture's rows, nearly three times a usual prompt's, are quicker in bfloat16; a prompt's are as quick in float32.
    """
    many = stage == PREFILL
    return OpenVinoGraph(path, alike=alike if many else None, in_float32=many, profile_to=profile_to)


class OpenVinoGraph:
    """One graph, compiled here; used like ONNX Runtime's `InferenceSession`.

    Args:
        path: the ONNX file, its weights beside it.
        alike: others that it may be alike, all its weights being inputs then; None for a graph of its own, of whose
            weights most are copied into a layout that is quicker.
        in_float32: whether what is not int8 is float32, even where bfloat16 is quicker.
        profile_to: gets the times of all runs in the form of ONNX Runtime's profiles; None for none.

    Raises:
        UserError: OpenVINO is not installed, or refuses the file.
    """

    def __init__(self, path: Path, alike: Alike | None, in_float32: bool, profile_to: Path | None = None):
        require_package(path)
        import openvino

        from .openvino_layers import in_place, is_long, is_weight, weights_as_inputs

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": profile_to is not None}
        if in_float32:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = _core().read_model(path)
            self._inputs, self._outputs = (
                {port.any_name: number for number, port in enumerate(ports)} for ports in (model.inputs, model.outputs)
            )
            self._constants = weights_as_inputs(model, is_weight if alike else is_long)
            self._weights = {number: in_place(constant) for number, constant in self._constants.items()}
            self._turns = alike.turns(model, settings) if alike else _compiled(model, settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"OpenVINO {openvino.__version__} cannot load {path}: {reason}. Build the bundle again, or with "
                f"{WITHOUT}, which needs ONNX Runtime alone"
            ) from None
        self._profile_to, self._events = profile_to, []

    def run(self, outputs: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once.

        Args:
            outputs: names of what is wanted.
            feed: every input.

        Returns:
            Views of memory that the run after the next, of this graph or one alike, writes anew: they can be what the
            next one reads.
        """
        begin = time.perf_counter()
        values = {self._inputs[name]: np.ascontiguousarray(value) for name, value in feed.items()}
        request = next(self._turns)
        results = request.infer(self._weights | values, share_inputs=True, share_outputs=True)
        if self._profile_to is not None:
            self._note(request, begin, time.perf_counter())
        return [results[self._outputs[name]] for name in outputs]

    def _note(self, request: openvino.InferRequest, begin: float, end: float) -> None:
        run = {"name": "model_run", "ts": begin * 1e6, "dur": (end - begin) * 1e6}
        nodes = [
            {"cat": "Node", "name": one.node_name, "ts": run["ts"], "dur": one.real_time.total_seconds() * 1e6}
            | {"args": {"op_name": one.node_type}}
            for one in request.get_profiling_info()
            if one.real_time
        ]
        self._events += [run, *nodes]
        self._profile_to.write_text(json.dumps(self._events))


@cache
def _core() -> openvino.Core:
    import openvino

    return openvino.Core()


def _compiled(model: openvino.Model, settings: Mapping[str, Any]) -> Turns:
    compiled = _core().compile_model(model, "CPU", dict(settings))
    trim_heap()  # of what compiling took
    return cycle([compiled.create_infer_request() for _ in range(2)])
