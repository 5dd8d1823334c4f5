"""Files of a vision tower in CLIP's published layout, which `mm_vision_tower` of a MobileVLM names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mobilevlm.checkpoint.config import VisionConfig


def save_tower(tower: Any, vision: VisionConfig, out: Path) -> None:
    """Writes a tower in CLIP's published layout: names with `vision_model.`, which all versions of transformers read.

    Args:
        tower: a CLIPVisionModel.
        vision: image size, mean and standard deviation for `preprocessor_config.json`.
        out: directory to write to; it has to exist.
    """
    from safetensors.torch import save_file

    weights = {f"vision_model.{name}": value.detach().contiguous() for name, value in tower.state_dict().items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    tower.config.save_pretrained(out)
    size = vision.image_size
    preprocessor = {
        "crop_size": {"height": size, "width": size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": vision.image_mean,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": vision.image_std,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": vision.shortest_edge or size},
    }
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
