"""Graphs of precision `int8_amx` on OpenVINO, which has kernels for an Intel CPU's matrix unit, AMX.

OpenVINO copies constant weights into a layout of its own. Those that a graph's input stands for instead are read where
they lie, a tenth slower: mapped from their file, whose pages the system takes back when memory is short.
API: https://docs.openvino.ai/2026/api/ie_python_api/api.html
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mobilevlm.errors import UserError

from .stages import PREFILL

if TYPE_CHECKING:
    import openvino

FEWEST_WEIGHTS = 65536  # of a matrix that is worth being left where it is
# Rows of a prompt at a time: what a graph needs for values between operators grows with them, and stays with it.
MOST_ROWS = 256
WITHOUT = "--precision vision=int8,prefill=int8,decoder=int4"
WIDEST = 2**20  # columns of a matrix, not said exactly


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


def open_stage(path: Path, stage: str, profile_to: Path | None = None) -> OpenVinoGraph:
    """A stage's graph: a prefill's weights, which are many, stay in their file; see `OpenVinoGraph`.

    A picture's rows, nearly three times a usual prompt's, are quicker in bfloat16; a prompt's are as quick in float32.
    """
    return OpenVinoGraph(path, maps_weights=stage == PREFILL, in_float32=stage == PREFILL, profile_to=profile_to)


class OpenVinoGraph:
    """One graph, compiled here; used like ONNX Runtime's `InferenceSession`.

    Args:
        path: the ONNX file, its weights beside it.
        maps_weights: whether int8 weights are left in their file, to be read from there.
        in_float32: whether what is not int8 is float32, even where bfloat16 is quicker.
        profile_to: gets the times of all runs in the form of ONNX Runtime's profiles; None for none.

    Raises:
        UserError: OpenVINO is not installed, or refuses the file.
    """

    def __init__(self, path: Path, maps_weights: bool, in_float32: bool, profile_to: Path | None = None):
        require_package(path)
        import openvino

        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": profile_to is not None}
        if in_float32:
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            model = _core().read_model(path)
            self._mapped = _as_inputs(model) if maps_weights else {}
            self._compiled = _core().compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise UserError(
                f"OpenVINO {openvino.__version__} cannot load {path}: {reason}. Build the bundle again, or with "
                f"{WITHOUT}, which needs ONNX Runtime alone"
            ) from None
        self._request = self._compiled.create_infer_request()
        for name, constant in self._mapped.items():
            self._request.set_tensor(name, _in_place(constant))
        self._profile_to, self._events = profile_to, []

    def run(self, outputs: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once.

        Args:
            outputs: names of what is wanted.
            feed: every input.
        """
        begin = time.perf_counter()
        results = self._request.infer({name: np.ascontiguousarray(value) for name, value in feed.items()}, True)
        if self._profile_to is not None:
            self._note(begin, time.perf_counter())
        return [results[name] for name in outputs]

    def _note(self, begin: float, end: float) -> None:
        run = {"name": "model_run", "ts": begin * 1e6, "dur": (end - begin) * 1e6}
        nodes = [
            {"cat": "Node", "name": one.node_name, "ts": run["ts"], "dur": one.real_time.total_seconds() * 1e6}
            | {"args": {"op_name": one.node_type}}
            for one in self._request.get_profiling_info()
            if one.real_time
        ]
        self._events += [run, *nodes]
        self._profile_to.write_text(json.dumps(self._events))


@cache
def _core() -> openvino.Core:
    import openvino

    return openvino.Core()


def _as_inputs(model: openvino.Model) -> dict[str, Any]:
    """Put inputs in the place of a model's large int8 constants: the constants by the inputs' names."""
    import openvino
    from openvino import opset13

    found = {}
    for node in model.get_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.i8:
            continue
        out = node.output(0)
        if np.prod(out.shape) < FEWEST_WEIGHTS:
            continue
        # Where all of a size is known, OpenVINO sets memory aside for the input, in vain.
        shape = openvino.PartialShape([out.shape[0], openvino.Dimension(1, WIDEST)])
        name = node.get_friendly_name()
        stand_in = opset13.parameter(shape, np.int8, name=name)
        stand_in.output(0).get_tensor().set_names({name})
        for reader in list(out.get_target_inputs()):
            reader.replace_source_output(stand_in.output(0))
        model.add_parameters([stand_in])
        found[name] = node
    model.validate_nodes_and_infer_types()
    return found


def _in_place(constant: Any) -> openvino.Tensor:
    """A constant's values where they are, in its file: nobody writes them, and OpenVINO takes arrays that one could."""
    import openvino

    view = constant.data
    values = (ctypes.c_int8 * view.size).from_address(view.ctypes.data)
    return openvino.Tensor(np.ctypeslib.as_array(values).reshape(view.shape), shared_memory=True)
