"""Forms of stages for bundles of versions that did not note them in the manifest, by the names of their precisions.

Nothing is added here: a precision that is new notes its form. A test holds the rows against what a build notes today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .stage_form import FP16, FP32, INT8, INT16, OPENVINO, StageForm
from .stages import PREFILL, VISION
from .targets import TARGETS
from .typed_json import typed

# By backend and precision.
FORMS = {
    "ort_fp32": StageForm(FP32, FP32, 4, 4, "float32"),
    "ort_fp16": StageForm(FP32, FP32, 4, 4, "float32", widened=True),
    "ort_int8": StageForm(INT8, FP32, 1, 1, "float32", quantized=True),
    "ort_int8_amx": StageForm(INT8, FP32, 1, 1, "float32", OPENVINO, quantized=True),
    "ort_int4": StageForm(INT8, FP32, 0.5 + 4.5 / 128, 0.5 + 4.5 / 128, "float32", quantized=True),
    "ort_int4_symmetric": StageForm(INT8, FP32, 0.5 + 4 / 32, 0.5 + 4 / 32, "float32", quantized=True),
    "qnn_a16w8": StageForm(INT16, INT16, 1, 1, "uint8", "qnn"),
    "qnn_a16w4": StageForm(INT16, INT16, 0.5 + 4 / 32, 1, "uint8", "qnn"),
    "tensorrt_fp32": StageForm(FP32, FP32, 4, 4, "float32", "tensorrt"),
    "tensorrt_fp16": StageForm(FP16, FP16, 2, 2, "float16", "tensorrt"),
    "tensorrt_int8": StageForm(INT8, FP16, 1, 2, "float16", "tensorrt", quantized=True),
    "tensorrt_int4": StageForm(FP16, FP16, 0.5 + 2 / 128, 2, "float16", "tensorrt", quantized=True),
}
LAYERS_PER_FILE = {"int8": 2, "int8_amx": 1}


def with_forms(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest as JSON has it, with its stages' forms as `StageForm`.

    Raises:
        ValueError: it notes none, and no earlier version wrote its precisions.
    """
    if noted := raw.get("forms"):
        return {**raw, "forms": typed(dict[str, StageForm], noted, "forms")}
    target, precisions = TARGETS.get(raw["target"]), raw["precision"]
    if target is None:  # which nothing here runs: opening a runner says so
        return dict(raw)
    names = {stage: f"{target.backend}_{name}" for stage, name in precisions.items()}
    strange = [stage for stage, name in names.items() if name not in FORMS]
    strange += [stage for stage in names if stage == PREFILL and precisions[stage] not in LAYERS_PER_FILE]
    if strange:
        raise ValueError(f"it does not say how {strange[0]}={precisions[strange[0]]} is run")
    forms = {stage: FORMS[name] for stage, name in names.items()}
    if PREFILL in forms:  # whose kv cache is int8, and the decoder's with it
        layers = LAYERS_PER_FILE[precisions[PREFILL]]
        forms = {stage: replace(form, cache_dtype="int8") for stage, form in forms.items()}
        forms[PREFILL] = replace(forms[PREFILL], layers_per_file=layers)
    if VISION in forms and target.xnnpack and not forms[VISION].quantized:
        forms[VISION] = replace(forms[VISION], xnnpack=True)
    return {**raw, "forms": forms}
