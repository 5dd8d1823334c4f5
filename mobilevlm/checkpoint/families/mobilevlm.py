"""MobileVLM and MobileLLaMA: the layout that all others are read as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..vision_config import VisionConfig
from . import Layout


def layout(raw: dict[str, Any], directory: Path) -> Layout:
    """Takes everything as it is.

    Args:
        raw: the parsed `config.json`; `vision` in it is a tower that no other file describes, as training leaves one
            whose model came from another family.
        directory: not looked at.
    """
    vision = raw.get("vision")
    return Layout(raw, VisionConfig.from_dict(vision) if vision else None)
