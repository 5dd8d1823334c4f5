"""Activations of the decoder on calibration data: second moments, magnitudes, and scales for an int8 kv cache.

One layer at a time, while a build streams through the decoder, from the layers' exact weights. What a layer reads is
kept as second moments, a matrix of the size of its inputs, until the next layer runs; of the keys and values it would
put in the cache only how large each channel gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.func import functional_call

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.model.model import empty_model

from ..split.int8_error import Magnitudes
from ..weights.smoothquant import Smoothed

# Layers by what they read: those after the first of a row read the same.
READERS = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    DOWN := ("mlp.down_proj",),
)
LARGEST = 127
# Beyond what was seen: other conversations go a little further, and one quantised value more or less costs nothing.
MARGIN = 1.25


class Observed:
    """Calibration data on its way through the decoder.

    Args:
        config: the model.
        tensors: its weights, balanced where the ones that are quantised are.
        inputs: conversations as `conversations.embedded` returns them, (1, T, D) float32 each.
        with_moments: whether these will be asked for; they take most of the time.
        smoothed: of the same weights: gets what down projections read, and magnitudes are of what they read then.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, torch.Tensor],
        inputs: list[torch.Tensor],
        with_moments: bool = True,
        smoothed: Smoothed | None = None,
    ):
        self._tensors, self._hidden, self._head_dim = tensors, inputs, config.head_dim
        self._model = empty_model(config).model
        self._moments: dict[str, torch.Tensor] = {}
        self._scales: dict[tuple[int, str], torch.Tensor] = {}
        self._magnitudes: dict[str, Magnitudes] = {}
        self._with_moments, self._smoothed = with_moments, smoothed
        self._done = 0

    def moments(self, name: str) -> torch.Tensor:
        """Returns the second moments (K, K) float32 of a linear layer's input, of the last layer run or a later one."""
        while name not in self._moments:
            self._run_next()
        return self._moments[name]

    def magnitudes(self, name: str) -> Magnitudes:
        """Returns the magnitudes of what a linear layer of a decoder layer reads."""
        while name not in self._magnitudes:
            self._run_next()
        return self._magnitudes[name]

    def cache_scales(self, layer: int, part: str) -> torch.Tensor:
        """Returns the scales of an int8 cache's channels, (kv heads * head_dim,) float32.

        Args:
            layer: of the decoder.
            part: `key` or `value`.
        """
        while (layer, part) not in self._scales:
            self._run_next()
        return self._scales[layer, part]

    def _run_next(self) -> None:
        if self._done > len(self._model.layers):
            raise LookupError("the data has been through all layers: what they read is asked in their order, and once")
        self._moments.clear()
        if self._done < len(self._model.layers):
            self._run_layer(self._done)
        else:
            self._run_norm()
        self._done += 1

    @torch.inference_mode()
    def _run_layer(self, number: int) -> None:
        name, layer = f"layers.{number}", self._model.layers[number]
        hooks, products = [], []
        for readers in READERS:
            watched, names = layer.get_submodule(readers[0]), [f"model.{name}.{reader}" for reader in readers]
            seen = Magnitudes()
            self._magnitudes |= dict.fromkeys(names, seen)
            if readers == DOWN and self._smoothed is not None:
                hooks.append(watched.register_forward_pre_hook(lambda _, read: products.append(read[0].flatten(0, 1))))
            else:
                hooks.append(watched.register_forward_pre_hook(lambda _, read, to=seen: to.add(read[0])))
            if self._with_moments:
                moments = torch.zeros(watched.in_features, watched.in_features)
                self._moments |= dict.fromkeys(names, moments)
                hooks.append(watched.register_forward_pre_hook(lambda _, read, to=moments: _add(to, read[0])))
        largest: dict[str, list[torch.Tensor]] = {"key": [], "value": []}
        for part, projection, size in (
            ("key", layer.self_attn.k_proj, self._turned),
            ("value", layer.self_attn.v_proj, torch.abs),
        ):
            hooks.append(projection.register_forward_hook(partial(_note_largest, largest[part], size)))
        weights = self._weights(name, layer)
        self._hidden = [
            functional_call(layer, weights, (hidden,), {"position_embeddings": self._positions(hidden)})
            for hidden in self._hidden
        ]
        for hook in hooks:
            hook.remove()
        if products and self._smoothed is not None:
            self.magnitudes(f"model.{name}.{DOWN[0]}").add(self._smoothed.smooth(number, torch.cat(products)))
        for part, sizes in largest.items():
            scales = torch.stack(sizes).amax(0) * (MARGIN / LARGEST)
            self._scales[number, part] = torch.where(scales > 0, scales, 1.0)

    def _turned(self, keys: torch.Tensor) -> torch.Tensor:
        """As large as RoPE can make a channel at any position: the length of the pair that it rotates."""
        first, second = keys.view(*keys.shape[:-1], -1, 2, self._head_dim // 2).unbind(-2)
        length = torch.hypot(first, second)
        return torch.stack([length, length], -2).flatten(-3)

    @torch.inference_mode()
    def _run_norm(self) -> None:
        norm = self._model.norm
        weights, moments = self._weights("norm", norm), torch.zeros(*[len(self._hidden[0][0, 0])] * 2)
        for hidden in self._hidden:
            _add(moments, functional_call(norm, weights, (hidden,)))
        self._moments |= {"lm_head": moments, "model.embed_tokens": moments}  # the latter where the two are tied

    def _weights(self, name: str, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {part: self._tensors[f"model.{name}.{part}"].float() for part, _ in module.named_parameters()}

    def _positions(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None])


def _add(moments: torch.Tensor, rows: torch.Tensor) -> None:
    flat = rows.flatten(0, 1)
    moments.addmm_(flat.T, flat)


def _note_largest(seen: list[torch.Tensor], size: Callable, _module: object, _read: object, rows: torch.Tensor) -> None:
    """A forward hook behind its first two arguments: how large each channel of the rows gets."""
    seen.append(size(rows).flatten(0, 1).amax(0))
