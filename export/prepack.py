"""Lays a quantised stage's weights out on disk as this CPU's kernels read them, so that opening a bundle maps them.

Otherwise ONNX Runtime lays them out anew in memory each time: seconds, and the weights twice. The file holds both
forms, because the layout is made again at loading and the stored one is taken only where it turns out the same. So
a bundle that is copied to another kind of CPU is right there, too, only slower to open.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

SMALLEST = 1024  # bytes of a weight that goes into the external file


def prepack(source: Path, packed: Path, packed_weights: Path) -> None:
    """Write an ONNX file again with its weights laid out for this machine.

    Args:
        source: the stage as the graph was written.
        packed: the file to write.
        packed_weights: its external file, in the same directory.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(packed)
    for key, value in (
        ("optimized_model_external_initializers_file_name", packed_weights.name),
        ("optimized_model_external_initializers_min_size_in_bytes", str(SMALLEST)),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        options.add_session_config_entry(f"session.{key}", value)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
