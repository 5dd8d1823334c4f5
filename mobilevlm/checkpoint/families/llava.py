"""LLaVA-1.5 as its authors publish it, and TinyLLaVA: MobileVLM's names, since MobileVLM descends from LLaVA.

https://huggingface.co/liuhaotian/llava-v1.5-7b, https://huggingface.co/bczhou/TinyLLaVA-1.5B. The vision tower is the
one that `mm_vision_tower` names; the checkpoint's own counts where it was trained (`unfreeze_mm_vision_tower`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import Layout


def layout(raw: dict[str, Any], directory: Path) -> Layout:
    """Describes a checkpoint.

    Args:
        raw: the parsed `config.json`.
        directory: not looked at.
    """
    return Layout(raw | {"model_type": "mobilevlm", "conv_mode": "vicuna_v1"})
