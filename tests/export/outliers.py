"""Channels as real CLIP and LLaMA weights have them, put into a model without changing what it computes."""

from collections.abc import Mapping

import torch

from mobilevlm.checkpoint.config import ModelConfig

CLIP = "model.vision_tower.vision_tower.vision_model.encoder.layers."
FACTOR = 30.0
CHANNELS = 5


def with_outliers(tensors: Mapping[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """A few channels of every norm, of keys, values and the MLP's products are written larger and read smaller."""
    changed = {name: value.clone() for name, value in tensors.items()}
    generator = torch.Generator().manual_seed(5)

    def scale(writers: list[str], readers: list[str], repeat: int = 1, head_dim: int = 0) -> None:
        size = len(changed[writers[0]])
        factor = torch.ones(size)
        factor[torch.randperm(size, generator=generator)[:CHANNELS]] = FACTOR
        for name in writers:
            changed[name] *= factor if changed[name].ndim == 1 else factor[:, None]
        if repeat > 1:
            factor = factor.view(-1, 1, head_dim).expand(-1, repeat, -1).flatten()
        for name in readers:
            changed[name] /= factor

    repeat = config.num_attention_heads // config.num_key_value_heads
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}."
        scale([f"{name}input_layernorm.weight"], [f"{name}self_attn.{part}_proj.weight" for part in "qkv"])
        scale([f"{name}self_attn.v_proj.weight"], [f"{name}self_attn.o_proj.weight"], repeat, config.head_dim)
        pairs = torch.ones(config.num_key_value_heads, 1, config.head_dim // 2)  # that RoPE turns
        pairs.view(-1)[torch.randperm(pairs.numel(), generator=generator)[:CHANNELS]] = FACTOR
        keys = pairs.expand(-1, 2, -1).flatten(1)
        changed[f"{name}self_attn.k_proj.weight"] *= keys.flatten()[:, None]
        changed[f"{name}self_attn.q_proj.weight"] /= keys.repeat_interleave(repeat, 0).flatten()[:, None]
        scale([f"{name}post_attention_layernorm.weight"], [f"{name}mlp.{part}_proj.weight" for part in ("gate", "up")])
        scale([f"{name}mlp.up_proj.weight"], [f"{name}mlp.down_proj.weight"])
    for layer in range(config.vision.num_hidden_layers if config.vision else 0):
        name = f"{CLIP}{layer}."
        norms = [f"{name}layer_norm1.{part}" for part in ("weight", "bias")]
        scale(norms, [f"{name}self_attn.{part}_proj.weight" for part in "qkv"])
        scale([f"{name}self_attn.v_proj.{part}" for part in ("weight", "bias")], [f"{name}self_attn.out_proj.weight"])
        scale([f"{name}layer_norm2.{part}" for part in ("weight", "bias")], [f"{name}mlp.fc1.weight"])
    return changed
