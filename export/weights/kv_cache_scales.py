"""Weights whose keys and values come out in steps of an 8-bit kv cache, each channel in its own.

What a channel of the cache is divided by, the layer that reads it is multiplied by, so that a model computes the same.
The two channels that RoPE turns into each other have one step (`decoder_activations.py`), so a query can carry a key's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from mobilevlm.checkpoint.config import ModelConfig


class CacheCodes(Mapping[str, torch.Tensor]):
    """A checkpoint's tensors with the cache's steps inside.

    Args:
        tensors: the weights.
        config: the model.
        steps: what a code of each channel of a layer's `key` or `value` is worth, (kv heads * head_dim,).
    """

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], config: ModelConfig, steps: Callable[[int, str], torch.Tensor]
    ):
        self._tensors, self._config, self._steps = tensors, config, steps

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
            steps = self._steps(layer, "key" if projection == "k_proj" else "value")
            return value.float() / (steps[:, None] if value.ndim == 2 else steps)
        steps = self._for_queries(self._steps(layer, "key" if projection == "q_proj" else "value"))
        if projection == "q_proj":
            return value.float() * (steps[:, None] if value.ndim == 2 else steps)
        return value.float() * steps if value.ndim == 2 else value

    def moments(self, name: str, moments: torch.Tensor) -> torch.Tensor:
        """Second moments (K, K) of what a linear layer reads, as it reads them here: values are in steps."""
        if not name.endswith("self_attn.o_proj"):
            return moments
        steps = self._for_queries(self._steps(int(name.split(".")[2]), "value"))
        return moments / torch.outer(steps, steps)

    def _for_queries(self, steps: torch.Tensor) -> torch.Tensor:
        """Of each query head, the steps of the head it reads."""
        config = self._config
        times = config.num_attention_heads // config.num_key_value_heads
        return steps.view(-1, 1, config.head_dim).expand(-1, times, -1).flatten()
