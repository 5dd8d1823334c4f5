"""ONNX Runtime sessions on the CPU that verify a build: weights stay on disk, and graphs run as they are written."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort

from mobilevlm.engines.chunks import Run

from .unrounded import without_rounding

EXTERNAL_DATA = "session.model_external_initializers_file_folder_path"


def by_name(session: ort.InferenceSession) -> Run:
    """Returns a function that runs a session: inputs by name to outputs by name."""
    names = [output.name for output in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def open_unrounded(path: Path) -> ort.InferenceSession:
    """Opens a session of a graph without its rounding of values (`unrounded.py`)."""
    model = onnx.load(str(path), load_external_data=False)
    without_rounding(model)
    options = _options()
    options.add_session_config_entry(EXTERNAL_DATA, str(path.parent))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_session(path: Path, packs: bool = False) -> ort.InferenceSession:
    """Opens a session that leaves weights on disk, mapped: a model larger than memory can be checked too.

    Args:
        path: of the ONNX file.
        packs: whether weights are packed for the kernels nevertheless, in memory.
    """
    return ort.InferenceSession(str(path), _options(packs), providers=["CPUExecutionProvider"])


def _options(packs: bool = False) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not packs:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_mem_pattern = False  # it would ask for all weights' size at once, mapped or not
    # Constant folding would turn float16 or quantised weights into float32 ones in memory.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # as written: weights are decoded late
    return options
