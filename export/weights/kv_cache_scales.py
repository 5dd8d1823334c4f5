"""Weights with the scales of an 8-bit kv cache inside: keys and values come out divided by their channel's scale.

What a channel of the cache is divided by, the layer that reads it is multiplied by, so that a model computes the same.
The two channels that RoPE rotates into each other have one scale (`decoder_activations.py`), so a query can carry a
key's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from mobilevlm.checkpoint.config import ModelConfig


class CacheScaled(Mapping[str, torch.Tensor]):
    """A checkpoint's tensors with the cache's scales inside.

    Args:
        tensors: the weights.
        config: the model.
        scales: layer, and `key` or `value`, to the scale of each channel, (kv heads * head_dim,) float32.
    """

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], config: ModelConfig, scales: Callable[[int, str], torch.Tensor]
    ):
        self._tensors, self._config, self._scales = tensors, config, scales

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self._tensors[name]
        where = name.split(".")
        if where[:2] != ["model", "layers"] or where[3] != "self_attn":
            return value
        layer, projection = int(where[2]), where[4]
        if projection in ("k_proj", "v_proj"):
            scales = self._scales(layer, "key" if projection == "k_proj" else "value")
            return value.float() / (scales[:, None] if value.ndim == 2 else scales)
        scales = self._for_queries(self._scales(layer, "key" if projection == "q_proj" else "value"))
        if projection == "q_proj":
            return value.float() * (scales[:, None] if value.ndim == 2 else scales)
        return value.float() * scales if value.ndim == 2 else value

    def moments(self, name: str, moments: torch.Tensor) -> torch.Tensor:
        """Returns the second moments of a linear layer's input as it is here, divided by the cache's scales.

        Args:
            name: the layer, without `.weight`.
            moments: (K, K) float32, of the input before.
        """
        if not name.endswith("self_attn.o_proj"):
            return moments
        scales = self._for_queries(self._scales(int(name.split(".")[2]), "value"))
        return moments / torch.outer(scales, scales)

    def _for_queries(self, scales: torch.Tensor) -> torch.Tensor:
        """The scales of the head that each query head reads."""
        config = self._config
        times = config.num_attention_heads // config.num_key_value_heads
        return scales.view(-1, 1, config.head_dim).expand(-1, times, -1).flatten()
