"""Forms of a build's stages: what it notes in the manifest for the device, from facts of precisions and target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mobilevlm.engines.stage_form import StageForm
from mobilevlm.engines.stages import PREFILL, VISION
from mobilevlm.engines.targets import Target

from .precisions import facts_of


def stage_forms(target: Target, precisions: Mapping[str, str]) -> dict[str, StageForm]:
    """Form of every stage.

    Args:
        target: to build for.
        precisions: stage to precision.
    """
    return {stage: _form(target, stage, name, has_int8_cache(precisions)) for stage, name in precisions.items()}


def has_int8_cache(precisions: Mapping[str, str]) -> bool:
    """Whether the kv cache is int8: a decoder's steps are quicker on it, its prompts slower.

    So it comes with a separate prefill (`export/lowerings/ort_prefill.py`), which reads it otherwise.
    """
    return PREFILL in precisions


def _form(target: Target, stage: str, name: str, int8_cache: bool) -> StageForm:
    facts = facts_of(target.backend, name)
    # XNNPACK takes products of floats whose sizes are all known beforehand.
    form = replace(facts.form, xnnpack=target.xnnpack and stage == VISION and not facts.form.quantized)
    if int8_cache:
        form = replace(form, cache_dtype="int8")
    if stage == PREFILL and facts.prefill:
        form = replace(form, layers_per_file=facts.prefill.layers)
    return form
