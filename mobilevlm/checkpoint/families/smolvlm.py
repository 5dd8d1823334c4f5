"""SmolVLM, SmolVLM2 and Idefics3 in transformers' layout: SigLIP, pixel shuffle, and a LLaMA with a byte-level BPE.

https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct. The projector reads the tower's last layer behind its last
norm. Images are resized to the processor's `size`, and cut into tiles where it has `do_image_splitting`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..config_types import ConfigError
from ..vision_config import LANCZOS, SIGLIP, VisionConfig
from . import PROJECTOR, TOWER, Layout
from .transformers_defaults import LLAMA, image_processor, text_config

VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 32,
}
# The only values of the decoder's configuration that are implemented; absent ones have them.
COMPUTED = {"qk_layer_norms": False, "rope_interleaved": False, "use_resampler": False}
SCALE_FACTOR, LONGEST_EDGES = 2, 4  # transformers' own scale_factor; its processor's size, in tiles
PARTS = {"text_model": "model.", "vision_model": TOWER}


def layout(raw: dict[str, Any], directory: Path) -> Layout:
    """Describes a checkpoint.

    Args:
        raw: the parsed `config.json`.
        directory: has the processor's files.

    Raises:
        ConfigError: an option that is not implemented.
    """
    text, nested = raw.get("text_config") or {}, raw.get("vision_config") or {}
    for name, part in (("text_config", text), ("vision_config", nested)):
        if not isinstance(part, dict):
            raise ConfigError(f"config.json has {name} {str(part)[:80]!r}; an object is needed")
    for key, value in COMPUTED.items():
        if text.get(key, value) != value:
            raise ConfigError(f"config.json has {key} {text[key]!r} in text_config; only {value!r} is supported")
    factor = raw.get("scale_factor", SCALE_FACTOR)
    if not isinstance(factor, int) or not 1 <= factor <= 99:
        raise ConfigError(f"config.json has scale_factor {factor!r}; 1 to 99 is possible")
    vision = _tower(nested, directory)
    values = text_config(text, raw, LLAMA)
    return Layout(
        values
        | {
            "conv_mode": "smolvlm",
            "image_aspect_ratio": None,
            "mm_hidden_size": vision.hidden_size,
            "mm_projector_type": f"pixel_shuffle{factor}x",
            "mm_use_im_patch_token": False,
            "mm_vision_select_feature": "cls_patch",
            "mm_vision_select_layer": -1,
            # The decoder's own key says what holds for it as a model of its own.
            "tie_word_embeddings": raw.get("tie_word_embeddings") or False,
        },
        vision,
        rename,
        adapter_alone=True,
    )


def _tower(nested: dict[str, Any], directory: Path) -> VisionConfig:
    """The vision tower, with its processor's settings."""
    vision = VisionConfig.from_files(VISION_DEFAULTS | nested | {"model_type": SIGLIP}, None)
    settings = image_processor(directory)
    tile = _longest_edge(settings, "max_image_size", vision.image_size)
    if tile != vision.image_size:
        raise ConfigError(
            f"preprocessor_config.json has max_image_size {tile}, the tower {vision.image_size}: its positions would "
            "have to be interpolated, which is not supported"
        )
    if not _in_order(vision.grid):
        raise ConfigError(
            f"the vision tower has {vision.grid} patches a side, for which transformers' rounding gives positions "
            "another order; this is not supported"
        )
    described = {
        "size": {"height": tile, "width": tile},
        "longest_edge": _longest_edge(settings, "size", LONGEST_EDGES * tile),
        "resample": settings.get("resample", LANCZOS),
        "do_image_splitting": settings.get("do_image_splitting", True),
    }
    kept = {key: settings[key] for key in ("image_mean", "image_std", *_FLAGS) if key in settings}
    values = VISION_DEFAULTS | nested | {"model_type": SIGLIP, "use_post_layernorm": True}
    return VisionConfig.from_files(values, kept | described)


_FLAGS = ("do_resize", "do_rescale", "do_normalize", "rescale_factor")


def _longest_edge(settings: dict[str, Any], key: str, default: int) -> int:
    size = settings.get(key) or {"longest_edge": default}
    edge = size.get("longest_edge") if isinstance(size, dict) else None
    if not isinstance(edge, int) or isinstance(edge, bool):
        raise ConfigError(f"preprocessor_config.json has {key} {str(size)[:80]}; a longest_edge is needed")
    return edge


def _in_order(grid: int) -> bool:
    """Whether a patch's position is its place in the image: transformers looks it up among rounded fractions."""
    bounds = np.arange(1 / grid, 1.0, 1 / grid).astype(np.float32)
    places = np.arange(grid, dtype=np.float32) * np.float32(1 / grid)
    return bool((np.searchsorted(bounds, places, side="right") == np.arange(grid)).all())


def rename(name: str) -> str | None:
    """Published name of a tensor to MobileVLM's."""
    part, _, rest = name.removeprefix("model.").partition(".")
    if part in PARTS:
        return PARTS[part] + rest
    if part == "connector":
        return f"{PROJECTOR}1.{rest.removeprefix('modality_projection.').removeprefix('proj.')}"
    return name
