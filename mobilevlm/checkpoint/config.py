"""A model's configuration: the published `config.json`, with the vision tower that it names.

Free of PyTorch, because a device reads the same description out of its bundle. Keys that the published files carry but
that mean nothing (lit-gpt leftovers such as `n_head: 16` in the 3B files) are ignored: only the fields below are read.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import shown
from .config_types import ConfigError, check_types, read_json
from .vision_config import KNOWN_TOWERS, VisionConfig

__all__ = ["KNOWN_TOWERS", "ConfigError", "ModelConfig", "VisionConfig", "projector_family", "read_json"]

LONGEST_TEXT = 1000
# Fields that the published `config.json` lacks where they have these values.
_LEFT_OUT = {"unfreeze_mm_vision_tower": False, "conv_mode": "v1"}
SQUARE = ("ldpnet", "ldpnetv2", "mlp_downsample", "pixel_shuffle")  # projectors that need patches alone
PROJECTORS = Path(__file__).resolve().parents[1] / "model" / "projectors"


@dataclass(frozen=True)
class ModelConfig:
    """One MobileVLM, or one MobileLLaMA when `vision` is None. Field names are the published ones.

    Attributes:
        conv_mode: conversation template that the model was trained with, where nobody asks for another.
        unfreeze_mm_vision_tower: whether the tower was trained along, so that the checkpoint's own weights count.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int = 32000
    head_dim: int = 0
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048
    max_sequence_length: int | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int = 1
    eos_token_id: int = 2
    pad_token_id: int = 0
    torch_dtype: str = "bfloat16"
    image_aspect_ratio: str | None = "pad"
    mm_hidden_size: int = 0
    mm_projector_type: str = "linear"
    mm_projector_lr: float | None = None
    mm_vision_tower: str | None = None
    vision_tower_type: str = "clip"
    mm_vision_select_layer: int = -2
    mm_vision_select_feature: str = "patch"
    mm_use_im_start_end: bool = False
    mm_use_im_patch_token: bool = True
    unfreeze_mm_vision_tower: bool = False
    conv_mode: str = "v1"
    vision: VisionConfig | None = None

    def __post_init__(self) -> None:
        if not self.head_dim:
            if self.hidden_size < self.num_attention_heads:
                heads = self.num_attention_heads
                raise ConfigError(f"hidden_size {self.hidden_size} is less than num_attention_heads {heads}")
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        _check(self)

    @property
    def tower(self) -> VisionConfig:
        """The vision tower, for what only a model with vision does.

        Raises:
            ConfigError: this is a text-only model.
        """
        if self.vision is None:
            raise ConfigError("this is a text-only model: config.json names no mm_vision_tower")
        return self.vision

    @property
    def uses_checkpoint_tower(self) -> bool:
        """Whether the vision weights inside the checkpoint count, rather than those `mm_vision_tower` names."""
        return "v2" in self.mm_projector_type or self.unfreeze_mm_vision_tower or not self.mm_vision_tower

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Tokens the original adds to the tokenizer at load, in its order."""
        if self.vision is None:
            return ()
        patch = ("<im_patch>",) if self.mm_use_im_patch_token else ()
        return patch + (("<im_start>", "<im_end>") if self.mm_use_im_start_end else ())

    @property
    def num_vision_layers(self) -> int:
        """Number of tower blocks that are needed: those up to the hidden state `mm_vision_select_layer` points at."""
        layers = self.tower.num_hidden_layers
        select = self.mm_vision_select_layer
        return select if select >= 0 else layers + 1 + select

    @property
    def num_patches(self) -> int:
        """Number of patch features per image that the projector receives."""
        return self.tower.num_rows if self.mm_vision_select_feature == "cls_patch" else self.tower.grid**2

    def to_published(self) -> dict[str, Any]:
        """The `config.json` of the published layout."""
        text = self.vision is None
        values = {key: value for key, value in asdict(self).items() if key != "vision"}
        if text:
            values = {k: v for k, v in values.items() if not k.startswith(("mm_", "image_", "vision_tower"))}
        if self.head_dim * self.num_attention_heads == self.hidden_size:
            del values["head_dim"]
        if self.max_sequence_length is None:
            del values["max_sequence_length"]
        for name, usual in _LEFT_OUT.items():
            if values.get(name) == usual:
                del values[name]
        values |= {
            "architectures": ["LlamaForCausalLM" if text else "MobileLlamaForCausalLM"],
            "model_type": "llama" if text else "mobilevlm",
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "rope_scaling": None,
            "use_cache": True,
        }
        if not text:
            values |= {"image_grid_pinpoints": None, "use_mm_proj": True}
            values |= {"freeze_mm_mlp_adapter": False, "tune_mm_mlp_adapter": False}
            if not self.mm_vision_tower:  # no other file says what the tower is
                values["vision"] = asdict(self.tower)
        return dict(sorted(values.items()))

    def to_dict(self) -> dict[str, Any]:
        """`to_published` plus the tower, as a bundle stores it."""
        return self.to_published() | {"vision": asdict(self.vision) if self.vision else None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`."""
        vision = values.get("vision")
        return cls.from_published(values, VisionConfig.from_dict(vision) if vision is not None else None)

    @classmethod
    def from_published(cls, raw: dict[str, Any], vision: VisionConfig | None) -> ModelConfig:
        """Read a published `config.json` (`mobilevlm` or `llama`).

        Args:
            raw: the parsed file.
            vision: the tower it names, None for a text-only model.

        Raises:
            ConfigError: a needed key is missing, or a value is one this project does not implement.
        """
        raw = {key: value for key, value in raw.items() if value is not None or key == "image_aspect_ratio"}
        _refuse_unsupported(raw)
        known = {f.name for f in fields(cls)} - {"vision"}
        values = {key: value for key, value in raw.items() if key in known}
        rope = raw.get("rope_parameters", {})  # transformers 5 writes rope_theta in here, and dtype for torch_dtype
        values.setdefault("rope_theta", rope.get("rope_theta", 10000.0))
        values.setdefault("torch_dtype", raw.get("dtype", "float32"))
        values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
        values.setdefault("image_aspect_ratio", None)  # absent means no padding
        needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        missing = [key for key in needed if key not in values]
        check_types(cls, values, "config.json")
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}: is this a MobileVLM or LLaMA checkpoint?")
        if vision:
            values.setdefault("mm_hidden_size", vision.hidden_size)
        return cls(**values, vision=vision)


def _refuse_unsupported(raw: dict[str, Any]) -> None:
    """Raises ConfigError for a `config.json` whose model computes something that is not implemented here."""
    for key, value in raw.items():
        if isinstance(value, str) and (len(value) > LONGEST_TEXT or not value.isprintable()):
            raise ConfigError(f"config.json has {ascii(key)[:60]} {ascii(value)[:60]}…; a line of text is needed")
    model_type = raw.get("model_type", "mobilevlm")
    if model_type not in ("mobilevlm", "llama"):
        raise ConfigError(f"config.json has model_type {shown(model_type)}; mobilevlm and llama are supported")
    found = [raw[key] for key in ("rope_scaling", "rope_parameters") if key in raw]
    rope: Any = next((one for one in found if not isinstance(one, dict)), next(filter(None, found), {}))
    if not isinstance(rope, dict):
        raise ConfigError(f"config.json has rope parameters {shown(rope)}; an object is needed")
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise ConfigError(f"config.json asks for rope scaling {shown(rope_type)}; only unscaled RoPE is supported")
    expected = {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "vision_tower_type": "clip"}
    for key, value in expected.items():
        if raw.get(key, value) != value:
            raise ConfigError(f"config.json has {key} {shown(raw[key])}; only {value!r} is supported")


def projector_family(mm_projector_type: str) -> str:
    """Projector file of an `mm_projector_type`: in the original's order, else the file of its name.

    Raises:
        ConfigError: there is none.
    """
    if mm_projector_type == "linear":
        return "linear"
    if mm_projector_type.startswith("mlp") and re.fullmatch(r"mlp\d{1,2}x_gelu", mm_projector_type):
        return "mlp"
    if re.fullmatch(r"pixel_shuffle[1-9]\d?x", mm_projector_type):
        return "pixel_shuffle"
    for family in ("ldpnetv2", "ldpnet"):
        if mm_projector_type.startswith(family):
            return family
    others = {path.stem for path in PROJECTORS.glob("[a-z]*.py")} - {"linear", "mlp", "pixel_shuffle"}
    if mm_projector_type in others:
        return mm_projector_type
    raise ConfigError(
        f"config.json has mm_projector_type {mm_projector_type!r}; known are linear, mlp<N>x_gelu, "
        "mlp_downsample, pixel_shuffle<N>x, ldpnet, ldpnetv2. "
        "A new projector is one file in mobilevlm/model/projectors/."
    )


def _check(config: ModelConfig) -> None:
    """Raises ConfigError where fields contradict each other or the vision tower."""
    if config.num_attention_heads % config.num_key_value_heads:
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        raise ConfigError(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
    if config.head_dim % 2:
        raise ConfigError(f"head_dim is {config.head_dim}; RoPE turns pairs, so that it has to be even")
    if config.vision is None:
        return
    family = projector_family(config.mm_projector_type)
    if config.mm_hidden_size != config.vision.hidden_size:
        raise ConfigError(
            f"mm_hidden_size is {config.mm_hidden_size}, but the vision tower {config.mm_vision_tower} has hidden size "
            f"{config.vision.hidden_size}: config.json names the wrong mm_vision_tower"
        )
    feature = config.mm_vision_select_feature
    if feature not in ("patch", "cls_patch"):
        raise ConfigError(f"mm_vision_select_feature is {feature!r}; patch and cls_patch are supported")
    if feature == "cls_patch" and config.vision.has_class_token and family in SQUARE:
        raise ConfigError(f"mm_vision_select_feature cls_patch does not fit {family}, which needs a square grid")
    if not 0 <= config.num_vision_layers <= config.vision.num_hidden_layers:
        layer, layers = config.mm_vision_select_layer, config.vision.num_hidden_layers
        raise ConfigError(f"mm_vision_select_layer is {layer}, but the vision tower has {layers} layers")
