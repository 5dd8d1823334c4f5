"""Sizes and preprocessing of a vision tower, CLIP or SigLIP, read from its own files or known by its name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..errors import shown
from .config_types import ConfigError, check_types

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP, SIGLIP = "clip_vision_model", "siglip_vision_model"
# What a tower's own `config.json` means where it leaves these out, by `model_type`; CLIP's are the class's.
DEFAULTS: dict[str, dict[str, Any]] = {
    CLIP: {},
    SIGLIP: {
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_mean": (0.5, 0.5, 0.5),
        "image_std": (0.5, 0.5, 0.5),
        "do_center_crop": False,
    },
}
# The only values that `image.preprocess` computes.
COMPUTED = {"do_resize": True, "do_rescale": True, "do_normalize": True}
BICUBIC, LANCZOS = 3, 1  # Pillow's numbers

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")  # that the tower's graph is written with

WHERE = "the vision tower's configuration"


@dataclass(frozen=True)
class VisionConfig:
    """A vision tower and the preprocessing that belongs to it (the names are those of its own files).

    Attributes:
        do_center_crop: what becomes of an image that is not padded to a square: its centre, or all of it, resized.
        model_type: `clip_vision_model`, or `siglip_vision_model`, which has neither class token nor first norm.
        use_post_layernorm: whether the features pass the tower's last norm, which is trained for the last layer's.
        resample: filter of every resize, as Pillow numbers them: 3 bicubic, 1 Lanczos.
        longest_edge: pixels of the longer edge that an image is resized to first; None for none.
        do_image_splitting: whether images are cut into tiles of `image_size`, behind which the whole one follows.
    """

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 336
    patch_size: int = 14
    layer_norm_eps: float = 1e-5
    hidden_act: str = "quick_gelu"
    image_mean: tuple[float, float, float] = CLIP_MEAN
    image_std: tuple[float, float, float] = CLIP_STD
    shortest_edge: int | None = None
    do_center_crop: bool = True
    model_type: str = CLIP
    use_post_layernorm: bool = False
    resample: int = BICUBIC
    longest_edge: int | None = None
    do_image_splitting: bool = False

    @property
    def grid(self) -> int:
        """Patches per side."""
        return self.image_size // self.patch_size

    @property
    def has_class_token(self) -> bool:
        """Whether a token of no patch comes first."""
        return self.model_type == CLIP

    @property
    def num_rows(self) -> int:
        """Rows that the tower's blocks compute: patches, and the class token where there is one."""
        return self.grid**2 + self.has_class_token

    @classmethod
    def from_files(cls, config: dict[str, Any], preprocessor: dict[str, Any] | None = None) -> VisionConfig:
        """Read a tower's own files.

        Args:
            config: the parsed `config.json`, of a vision model or of a whole CLIP (its `vision_config` counts).
            preprocessor: the parsed `preprocessor_config.json`, if the tower has one.

        Raises:
            ConfigError: a value has another type than its field, is a size that cannot be, or the tower is no CLIP or
                SigLIP.
        """
        known = {f.name for f in fields(cls)}
        check_types(cls, config, WHERE)  # or what is no object
        whole, config = config, config.get("vision_config") or config
        check_types(cls, config, WHERE)
        kind = _kind(config.get("model_type") or whole.get("model_type") or CLIP)
        values = {key: value for key, value in config.items() if key in known and value is not None}
        values = DEFAULTS[kind] | values | {"model_type": kind}
        if preprocessor:
            values |= _preprocessing(preprocessor)
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VisionConfig:
        """Inverse of `dataclasses.asdict`, with JSON's lists turned back into tuples."""
        check_types(cls, values, WHERE)
        if unknown := sorted(values.keys() - {f.name for f in fields(cls)}):
            raise ConfigError(f"{WHERE} has {_name(unknown[0])}, which is no field of it")
        converted: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in values.items()
            if value is not None
        }
        return cls(**converted)

    def __post_init__(self) -> None:
        if self.image_size < self.patch_size:
            raise ConfigError(f"{WHERE} has image_size {self.image_size}, and patch_size {self.patch_size} is larger")
        if self.hidden_size % self.num_attention_heads:
            heads, size = self.num_attention_heads, self.hidden_size
            raise ConfigError(f"{WHERE} has hidden_size {size}, no multiple of num_attention_heads {heads}")
        if self.hidden_act not in ACTIVATIONS:
            known = f"{', '.join(ACTIVATIONS[:-1])} and {ACTIVATIONS[-1]}"
            raise ConfigError(f"{WHERE} has hidden_act {shown(self.hidden_act)}; {known} are supported")
        if self.resample not in (BICUBIC, LANCZOS):
            raise ConfigError(f"{WHERE} has resample {self.resample!r}; 3 (bicubic) and 1 (Lanczos) are supported")


def _name(name: str) -> str:
    """Name of a file's field as a message shows it."""
    return name if name.isprintable() and len(name) <= 80 else ascii(name)[:80]


def _kind(model_type: object) -> str:
    """`model_type` of a vision model, also of one that has a text half; ConfigError where it is not implemented."""
    kinds = {"clip": CLIP, "siglip": SIGLIP, CLIP: CLIP, SIGLIP: SIGLIP}
    if not isinstance(model_type, str) or model_type not in kinds:
        raise ConfigError(f"the vision tower's model_type is {model_type!r}; {CLIP} and {SIGLIP} are supported")
    return kinds[model_type]


def _preprocessing(raw: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `VisionConfig` that a `preprocessor_config.json` sets."""
    for key, value in COMPUTED.items():
        if raw.get(key) not in (None, value):
            raise ConfigError(f"preprocessor_config.json has {key} {raw[key]!r}; only {value!r} is supported")
    crop, size = raw.get("crop_size"), raw.get("size")
    is_square = False
    if isinstance(size, dict) and "height" in size:  # of the whole image, whatever its shape
        is_square = True
        if size["height"] != size.get("width"):
            raise ConfigError(f"preprocessor_config.json has size {size!r}; only squares are supported")
        crop, size = size["height"], None
    values = {
        "do_center_crop": not is_square,
        "image_mean": raw.get("image_mean"),
        "image_std": raw.get("image_std"),
        "image_size": crop.get("height", crop.get("shortest_edge")) if isinstance(crop, dict) else crop,
        "shortest_edge": size.get("shortest_edge") if isinstance(size, dict) else size,
        "resample": raw.get("resample"),
        "longest_edge": raw.get("longest_edge"),
        "do_image_splitting": raw.get("do_image_splitting"),
    }
    return {key: value for key, value in values.items() if value is not None}


# What the files of these hub ids say (https://huggingface.co/openai/clip-vit-large-patch14-336 and google/siglip-…), so
# that a checkpoint that names one of them loads with no network.
KNOWN_TOWERS = {
    "clip-vit-large-patch14-336": VisionConfig(),
    "clip-vit-large-patch14": VisionConfig(image_size=224),
    "siglip-so400m-patch14-384": VisionConfig(
        1152, 4304, 27, 16, image_size=384, model_type=SIGLIP, **DEFAULTS[SIGLIP]
    ),
}
