"""Evens channels out before quantisation, without changing what a model computes.

Where a norm's gain or a layer's output goes into other layers channel by channel, any channel can be made smaller on
one side and larger on the other. Trained models have channels of a hundred times the usual size on one side, and they
take the others' levels when quantised. Dividing by sqrt(a / c), with a channel's size `a` in what is written and `c` in
the weights that read it, makes both sides sqrt(a * c). SmoothQuant (arXiv 2211.10438) does it with measured
activations; a norm's gain and a layer's rows tell as much where nothing but linears lies between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from mobilevlm.checkpoint.config import ModelConfig

from ..split.vision import CLIP


@dataclass(frozen=True)
class Passage:
    """Channels on their way from where they are scaled to the layers that read them.

    Attributes:
        writers: vectors, or matrices whose rows are the channels; their sizes add up in squares.
        readers: matrices whose columns are the channels.
        head_dim: of attention, where several query heads read one value head; else 0.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]
    head_dim: int = 0


def passages(config: ModelConfig) -> list[Passage]:
    """Returns every pair of layers in the model that can be equalised."""
    found = []
    for layer in range(config.num_hidden_layers):
        name = f"model.layers.{layer}."
        attention, mlp = f"{name}self_attn.", f"{name}mlp."
        found += [
            Passage((f"{name}input_layernorm.weight",), tuple(f"{attention}{part}_proj.weight" for part in "qkv")),
            Passage((f"{attention}v_proj.weight",), (f"{attention}o_proj.weight",), config.head_dim),
            Passage((f"{name}post_attention_layernorm.weight",), (f"{mlp}gate_proj.weight", f"{mlp}up_proj.weight")),
            Passage((f"{mlp}up_proj.weight",), (f"{mlp}down_proj.weight",)),
        ]
    if not config.tie_word_embeddings:
        found.append(Passage(("model.norm.weight",), ("lm_head.weight",)))
    for layer in range(config.num_vision_layers if config.vision else 0):
        name = f"{CLIP}encoder.layers.{layer}."
        attention = f"{name}self_attn."
        for norm, readers in (
            ("layer_norm1", tuple(f"{attention}{part}_proj.weight" for part in "qkv")),
            ("layer_norm2", (f"{name}mlp.fc1.weight",)),
        ):
            found.append(Passage((f"{name}{norm}.weight", f"{name}{norm}.bias"), readers))
        value = f"{attention}v_proj."
        found.append(Passage((f"{value}weight", f"{value}bias"), (f"{attention}out_proj.weight",)))
    return found


class Balanced(Mapping[str, torch.Tensor]):
    """A checkpoint's tensors, equalised as they are read.

    Args:
        tensors: the weights.
        config: the model.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], config: ModelConfig):
        self._tensors = tensors
        self._writers: dict[str, Passage] = {}
        self._readers: dict[str, Passage] = {}
        self._factors: dict[Passage, torch.Tensor] = {}
        for passage in passages(config):
            self._writers |= dict.fromkeys(passage.writers, passage)
            self._readers |= dict.fromkeys(passage.readers, passage)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __getitem__(self, name: str) -> torch.Tensor:
        value = self._tensors[name]
        if name in self._writers:
            factor = self._factor(self._writers[name])
            value = value.float() / (factor if value.ndim == 1 else factor[:, None])
        if name in self._readers:
            passage = self._readers[name]
            value = value.float() * _for_readers(self._factor(passage), value.shape[1], passage)
        return value

    def _factor(self, passage: Passage) -> torch.Tensor:
        """Divisor of the channels where they are written, (channels,) float32; 1 where one side is zero."""
        if passage not in self._factors:
            written = torch.stack([self._squares(name) for name in passage.writers]).sum(0).sqrt()
            read = torch.stack([self._tensors[name].float().square().mean(0) for name in passage.readers]).amax(0)
            if len(read) != len(written):  # query heads that share a value head
                read = read.view(-1, len(read) // len(written), passage.head_dim).amax(1).flatten()
            factor = (written / read.sqrt()).sqrt()
            self._factors[passage] = torch.where(torch.isfinite(factor) & (factor > 0), factor, 1.0)
        return self._factors[passage]

    def _squares(self, name: str) -> torch.Tensor:
        """Squared size of each channel as it is written, by rows that are balanced where they are read."""
        written = self._tensors[name].float()
        if written.ndim == 1:
            return written.square()
        if name in self._readers:
            passage = self._readers[name]
            written = written * _for_readers(self._factor(passage), written.shape[1], passage)
        return written.square().mean(1)


def _for_readers(factor: torch.Tensor, columns: int, passage: Passage) -> torch.Tensor:
    if columns == len(factor):
        return factor
    heads = factor.view(-1, 1, passage.head_dim)
    return heads.expand(-1, columns // len(factor), -1).flatten()
