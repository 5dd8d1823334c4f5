"""Families of checkpoints: what each published layout calls the things that a MobileVLM has, one file per layout.

A file has one function, `layout` (see `Family`), and a row in `ROWS`. Behind it there are no families: configuration
and tensors have MobileVLM's own names, and what a model does differently is a value of its `ModelConfig`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ..config_types import ConfigError
from ..vision_config import VisionConfig
from .refusals import refuse_unsupported

TOWER = "model.vision_tower.vision_tower.vision_model."
PROJECTOR = "model.mm_projector."


def _same(name: str) -> str | None:
    return name


@dataclass(frozen=True)
class Layout:
    """A published checkpoint, in MobileVLM's words.

    Attributes:
        config: keys of a MobileVLM's `config.json`.
        vision: the tower, where the checkpoint's own files describe it; None where `mm_vision_tower` names it, or
            there is none.
        rename: published name of a tensor to MobileVLM's; None for a tensor that the model does without.
        folders: folders that hold weights, below the checkpoint's own, each with what its tensors' names get in front.
        tokenizer: folder of the tokenizer's files.
        adapter_alone: whether a LoRA on it is an adapter with nothing beside it, as PEFT saves one.
    """

    config: dict[str, Any]
    vision: VisionConfig | None = None
    rename: Callable[[str], str | None] = _same
    folders: Mapping[str, str] = field(default_factory=lambda: {".": ""})
    tokenizer: str = "."
    adapter_alone: bool = False


class Family(Protocol):
    """Contents of a family's file."""

    def layout(self, raw: dict[str, Any], directory: Path) -> Layout:
        """Describes a checkpoint from its small files, without opening its weights.

        Args:
            raw: its parsed `config.json`.
            directory: its folder.

        Raises:
            ConfigError: the files describe something that is not implemented.
        """


# `model_type` of config.json, a key that config.json has besides where one type means two layouts, and the file.
ROWS = (
    ("mobilevlm", None, "mobilevlm"),
    ("llama", None, "mobilevlm"),
    ("llava", "text_config", "llava_hf"),
    ("llava", None, "llava"),
    ("llava_llama", "llm_cfg", "vila"),
    ("llava_llama", None, "llava"),
    ("tiny_llava_llama", None, "llava"),
    ("idefics3", None, "smolvlm"),
    ("smolvlm", None, "smolvlm"),
)


def read_layout(raw: dict[str, Any], directory: Path) -> Layout:
    """Describes a checkpoint of any known family.

    Args:
        raw: its parsed `config.json`.
        directory: its folder.

    Raises:
        ConfigError: the family is unknown, or the checkpoint is of a kind that is not implemented.
    """
    refuse_unsupported(raw)
    model_type = raw.get("model_type", "mobilevlm")
    for known, key, file in ROWS:
        if model_type == known and (key is None or raw.get(key)):
            family: Any = import_module(f".{file}", __package__)
            described: Layout = family.layout(raw, directory)
            return described
    raise ConfigError(
        f"config.json has model_type {model_type!r}; {', '.join(dict.fromkeys(row[0] for row in ROWS))} are supported: "
        "choose a checkpoint of one of these, or add a family (docs/extending/family.md)"
    )
