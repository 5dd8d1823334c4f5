"""The double's plan file: a header, and the graph with its weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from .profiles import IOptimizationProfile, dims, profile_as_json

MAGIC = b"double of a plan"


def pack(model: onnx.ModelProto, profiles: Sequence[IOptimizationProfile], trt: Any, options: dict[str, Any]) -> bytes:
    """A plan for the machine that the double pretends to be."""
    header = {
        "version": trt.__version__,
        "capability": list(trt._settings.capability),
        "profiles": [profile_as_json(profile) for profile in profiles] or [{}],
        "inputs": {value.name: [value.type.tensor_type.elem_type, dims(value)] for value in model.graph.input},
        "outputs": {value.name: [value.type.tensor_type.elem_type, dims(value)] for value in model.graph.output},
        **options,
    }
    text = json.dumps(header).encode()
    return MAGIC + struct.pack("<Q", len(text)) + text + model.SerializeToString()


def unpack(blob: bytes) -> tuple[dict[str, Any], onnx.ModelProto] | None:
    """Header and graph; None when it is no plan, or not all of one."""
    start = len(MAGIC) + 8
    if not blob.startswith(MAGIC) or len(blob) < start:
        return None
    (length,) = struct.unpack("<Q", blob[len(MAGIC) : start])
    try:
        return json.loads(blob[start : start + length]), onnx.load_model_from_string(blob[start + length :])
    except (ValueError, DecodeError):
        return None
