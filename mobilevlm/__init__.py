"""MobileVLM on the edge: from a checkpoint to a verified bundle for one device, and a small runtime that answers.

The names in `__all__` are this package's public ones. Each is imported when it is first asked for: importing the
package loads nothing heavy, and only `MobileVLM`, `Checkpoint` and `open_checkpoint` need PyTorch. A bundle's runtime
is `mobilevlm.runtime.Session`.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .environment import keep_to_ourselves

if TYPE_CHECKING:
    from .checkpoint.checkpoint import Checkpoint, open_checkpoint
    from .checkpoint.config import ModelConfig, VisionConfig
    from .errors import UserError
    from .image import ImageSpec, load_image, preprocess
    from .model.model import MobileVLM
    from .text.prompt import Conversation, StopRule
    from .text.templates import TEMPLATES, Template, template
    from .text.tokenizer import Tokenizer

__version__ = "0.1.0"
__all__ = [
    "TEMPLATES",
    "Checkpoint",
    "Conversation",
    "ImageSpec",
    "MobileVLM",
    "ModelConfig",
    "StopRule",
    "Template",
    "Tokenizer",
    "UserError",
    "VisionConfig",
    "__version__",
    "load_image",
    "open_checkpoint",
    "preprocess",
    "template",
]

# Modules of the public names, below this package.
_MODULES = {
    "Checkpoint": "checkpoint.checkpoint",
    "Conversation": "text.prompt",
    "ImageSpec": "image",
    "MobileVLM": "model.model",
    "ModelConfig": "checkpoint.config",
    "StopRule": "text.prompt",
    "TEMPLATES": "text.templates",
    "Template": "text.templates",
    "Tokenizer": "text.tokenizer",
    "UserError": "errors",
    "VisionConfig": "checkpoint.config",
    "load_image": "image",
    "open_checkpoint": "checkpoint.checkpoint",
    "preprocess": "image",
    "template": "text.templates",
}

# Here, because every module of ours is imported behind this one, and ONNX Runtime sends at its import.
keep_to_ourselves(os.environ)

_root = Path(__file__).resolve().parents[1]
if (_root / "pyproject.toml").is_file():  # a clone: engines/, export/, runtime/, ... beside us are our subpackages
    __path__.append(str(_root))


def __getattr__(name: str) -> Any:
    """Public name, imported on first use: the torch-free side can import this package."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    """Names for completion, the lazy ones among them."""
    return sorted({*globals(), *__all__})
