"""Compares the sizes of a configuration with the weights there are, before a model of those sizes is made.

Even without memory for its weights, a model of a million layers takes minutes and gigabytes to describe. What remains
is compared tensor by tensor, see `checkpoint.check_tensors`.
"""

from __future__ import annotations

from math import prod

from .checkpoint_error import CheckpointError
from .config import ModelConfig, VisionConfig
from .tensors import Tensors

LAYERS = {"model.layers.": "num_hidden_layers", ".vision_model.encoder.layers.": "the vision tower's num_hidden_layers"}
LEAST_EPSILON, MOST_EPSILON = 1e-12, 1e-2


def check_sizes(config: ModelConfig, tensors: Tensors, where: str) -> None:
    """Refuse a configuration of more layers, or of larger matrices, than the weights can fill.

    Args:
        config: the checkpoint's.
        tensors: the checkpoint's, with those of its vision tower.
        where: the checkpoint, for the message.

    Raises:
        CheckpointError: the message names the field, its value and what the weights hold.
    """
    vision = config.vision
    _check_numbers(config, where)
    layers = [config.num_hidden_layers, vision.num_hidden_layers if vision else 0]
    for (part, key), number in zip(LAYERS.items(), layers, strict=True):
        found = {name.split(part)[1].split(".")[0] for name in tensors if part in name}
        if number > len(found):
            raise CheckpointError(f"{where}: {key} is {number:,}, but the weights hold {len(found)} layers of these")
    most = sum(prod(tensors.entry(name).shape) for name in tensors)
    for keys, shape in (_text_shapes(config) | (_vision_shapes(vision) if vision else {})).items():
        if not 0 < prod(shape) <= most:
            raise CheckpointError(
                f"{where}: {keys} make a matrix of {' x '.join(map(str, shape))}, but all weights there have {most:,} "
                "values: config.json belongs to another model"
            )


def _text_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of the language model's kinds of matrices, by the fields that give them."""
    width, head = config.hidden_size, config.head_dim
    return {
        "hidden_size and vocab_size": (config.vocab_size, width),
        "hidden_size and intermediate_size": (config.intermediate_size, width),
        "hidden_size, num_attention_heads and head_dim": (config.num_attention_heads, head, width),
        "hidden_size, num_key_value_heads and head_dim": (config.num_key_value_heads, head, width),
    }


def _vision_shapes(vision: VisionConfig) -> dict[str, tuple[int, ...]]:
    """The same for its vision tower."""
    width, patch = vision.hidden_size, vision.patch_size
    return {
        "hidden_size and intermediate_size of the vision tower": (vision.intermediate_size, width),
        "hidden_size and patch_size of the vision tower": (width, 3, patch, patch),
        "hidden_size, image_size and patch_size of the vision tower": (vision.grid, vision.grid, width),
    }


def _check_numbers(config: ModelConfig, where: str) -> None:
    """Refuse what no model has: NaN or absurd constants, a grid without patches, tokens outside the vocabulary."""
    vision = config.vision
    epsilons = {"rms_norm_eps": config.rms_norm_eps} | ({"layer_norm_eps": vision.layer_norm_eps} if vision else {})
    for key, value in epsilons.items():
        if not LEAST_EPSILON <= value <= MOST_EPSILON:
            raise CheckpointError(f"{where}: {key} is {value}; {LEAST_EPSILON} to {MOST_EPSILON} is possible")
    if not 1 <= config.rope_theta <= 1e12:
        raise CheckpointError(f"{where}: rope_theta is {config.rope_theta}; 1 to 1e12 is possible")
    if vision and not all(1e-6 <= deviation <= 1e6 for deviation in vision.image_std):
        raise CheckpointError(f"{where}: image_std is {vision.image_std}; three numbers above zero are needed")
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if not -1 <= (index := getattr(config, key)) < config.vocab_size:  # some say -1 for none
            raise CheckpointError(f"{where}: {key} is {index}; the vocabulary has {config.vocab_size} tokens")
