"""Sentences for published checkpoints that look like one of a known family and compute something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...commands import command
from ..config_types import ConfigError

SIBLING = "choose a LLaVA-1.5, VILA1.5, TinyLLaVA or MobileVLM checkpoint"


def refuse_unsupported(raw: dict[str, Any]) -> None:
    """Refuses a `config.json` by what it asks for, before any family reads it.

    Raises:
        ConfigError: one sentence that names the key and says what to use instead.
    """
    for found, sentence in REFUSALS:
        if value := found(raw):
            build = command("export/build_engines.py", "--precision", "PRECISION")
            raise ConfigError(sentence.format(value=value, build=build, sibling=SIBLING))


def _quantised(raw: dict[str, Any]) -> str | None:
    for part in _parts(raw):
        if settings := part.get("quantization_config"):
            name = settings.get("quant_method") if isinstance(settings, dict) else None
            return str(name or "unnamed")
    return None


def _experts(raw: dict[str, Any]) -> str | None:
    for part in _parts(raw):
        keys = (key for key in ("num_local_experts", "num_experts", "moe", "moe_enable") if part.get(key))
        if key := next(keys, None):
            return f"{key} {part[key]!r}"
    return _type_with(raw, "moe", "mixtral")


def _video(raw: dict[str, Any]) -> str | None:
    tower = raw.get("mm_video_tower")
    return f"mm_video_tower {tower!r}" if tower else _type_with(raw, "video")


def _tiles(raw: dict[str, Any]) -> str | None:
    ratio, merge = raw.get("image_aspect_ratio"), raw.get("mm_patch_merge_type")
    if isinstance(ratio, str) and ratio.startswith("anyres"):
        return f"image_aspect_ratio {ratio!r}"
    if merge not in (None, "flat"):
        return f"mm_patch_merge_type {merge!r}"
    return _type_with(raw, "llava_next", "llava_onevision")


def _scales(raw: dict[str, Any]) -> str | None:
    return next((f"{key} {raw[key]!r}" for key in ("s2", "dynamic_s2") if raw.get(key)), None)


def _resampler(raw: dict[str, Any]) -> str | None:
    return f"mm_resampler_type {raw['mm_resampler_type']!r}" if raw.get("mm_resampler_type") else None


def _decoder(raw: dict[str, Any]) -> str | None:
    return _type_with(raw, "phi", "qwen", "stablelm", "mistral", "mpt", "gemma", "tinyllava")


def _type_with(raw: dict[str, Any], *parts: str) -> str | None:
    """`model_type`, also the text model's, that has one of these parts in it."""
    types = [str(part.get("model_type")) for part in _parts(raw)]
    return next((f"model_type {name!r}" for name in types if any(part in name for part in parts)), None)


def _parts(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The configuration and those of its decoder that it holds."""
    return [part for part in (raw, raw.get("text_config"), raw.get("llm_cfg")) if isinstance(part, dict)]


# What to look for and what to say, in the order of what decides.
REFUSALS: tuple[tuple[Callable[[dict[str, Any]], str | None], str], ...] = (
    (
        _quantised,
        "config.json has a quantization_config ({value}): these weights are quantised already; give the float16 or "
        "bfloat16 checkpoint that they were made of, and quantise it here with `{build}`",
    ),
    (_video, "config.json has {value}: a model for videos; only images are supported, {sibling}"),
    (_experts, "config.json has {value}: a mixture of experts; only dense decoders are supported, {sibling}"),
    (
        _tiles,
        "config.json has {value}: LLaVA-NeXT cuts an image into tiles (anyres); only one square per image is "
        "supported, {sibling}",
    ),
    (_scales, "config.json has {value}: an image in several sizes at once; only one is supported, {sibling}"),
    (_resampler, "config.json has {value}: resamplers are not supported, {sibling}"),
    (_decoder, "config.json has {value}: only decoders that compute what LLaMA does are supported, {sibling}"),
)
