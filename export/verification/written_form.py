"""PyTorch on the weights that a build wrote: what a stage computes if nothing but weights is rounded.

Its difference from the checkpoint's PyTorch is what the weights' precision costs; a stage's difference from it is the
rounding of what its layers read, whatever the weights' precision. Both are known beforehand to some decibels, from the
steps: a layer adds noise of a twelfth of the square of its step, relative to the rows it reads or the weights it holds.
Layers are in series, and so are their noises; a residual stream adds the layers' outputs to what is already there, so
that a model of L layers amplifies a layer's noise by less than 1 + L / 2. Floors leave 6 dB beyond that, 8 where ranges
are fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import log10

import numpy as np
import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.model.model import MobileVLM

from ..split.streamed_model import layers_of, streamed_model
from .weight_check import packed_layers
from .written_weights import WrittenGraph, WrittenLinear

MARGIN_DB = 6.0
# Of outputs where ranges are fixed beforehand: values beyond them are cut off besides.
FIXED_RANGE_MARGIN_DB = 8.0
LARGEST = 127  # of an int8 value
SUMS = 2  # in a layer: of the residual stream and what attention, and the MLP, add to it
ROW_MARGIN_DB = 12.0  # a single row of a kv cache may be worse than all of them by so much


class WrittenWeights(Mapping[str, torch.Tensor]):
    """A stage's tensors as they were written where that is in steps, read one at a time.

    Args:
        graphs: the stage's.
        source: the tensors that they were written from.
    """

    def __init__(self, graphs: Mapping[str, WrittenGraph], source: Mapping[str, torch.Tensor]):
        self._source = source
        self._last: tuple[str, WrittenLinear] | None = None
        self._places: dict[str, tuple[WrittenGraph, str, int]] = {}
        self._quantized = {name: graph for graph in graphs.values() for name in graph.quantized}
        for graph in graphs.values():
            for name in graph.linears:
                start, layers = 0, packed_layers(graph, name)
                for layer in layers:
                    self._places[layer] = graph, name, start
                    start += source[f"{layer}.weight"].shape[0] if len(layers) > 1 else 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name in self._quantized:
            return torch.from_numpy(self._quantized[name].other(name)[0].reshape(self._source[name].shape))
        layer = name.removesuffix(".weight")
        if layer == name or layer not in self._places:
            return self._source[name]
        shape, start = self._source[name].shape, self._places[layer][2]
        columns = self._product(layer).weight[:, start : start + shape[0]]
        return torch.from_numpy(np.ascontiguousarray(columns.T)).reshape(shape)

    def linear(self, layer: str) -> WrittenLinear | None:
        """Returns the product that a layer is in; None for one that is not of this stage."""
        return self._product(layer) if layer in self._places else None

    def _product(self, layer: str) -> WrittenLinear:
        graph, name, _ = self._places[layer]
        if self._last is None or self._last[0] != name:
            self._last = name, graph.linear(name)
        return self._last[1]


class WrittenForm:
    """The PyTorch model of one stage as it was written, in float32.

    Args:
        checkpoint: the model.
        weights: of the stage.
        on_layer: called after each of the stage's layers.
        result_bits: see `Written`.

    Attributes:
        model: the PyTorch model.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        weights: WrittenWeights,
        on_layer: Callable[[], object],
        result_bits: int,
    ):
        self.model: MobileVLM = streamed_model(checkpoint, weights)
        self._weights, self._result_bits = weights, result_bits
        self._read: dict[str, float] = {}
        self._has_fixed_ranges = False
        self._streams: list[float] = []
        for name, module in self.model.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda _, read, name=name: self._note(name, read[0]))
        for layer in layers_of(self.model):
            layer.register_forward_hook(lambda _, __, out: self._note_stream(out))
            layer.register_forward_hook(lambda *_: on_layer() and None)

    @property
    def rounding(self) -> float:
        """Noise that a layer's rounding of values adds, relative to them, of what has been run."""
        read, streams = ([*noises] or [0.0] for noises in (self._read.values(), self._streams))
        return float(np.mean(read) + SUMS * np.mean(streams))

    @property
    def margin_db(self) -> float:
        """Margin of the floors beyond the noise, in dB."""
        return FIXED_RANGE_MARGIN_DB if self._has_fixed_ranges else MARGIN_DB

    def _note(self, name: str, rows: torch.Tensor) -> None:
        linear = self._weights.linear(name)
        if linear is not None and linear.activation != "float":
            self._has_fixed_ranges |= linear.activation == "tensor"
            self._read[name] = rounding_noise(rows.reshape(-1, rows.shape[-1]), linear)

    def _note_stream(self, out: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        if self._result_bits:
            rows = out[0] if isinstance(out, tuple) else out
            step = (rows.max() - rows.min()).double() / (2**self._result_bits - 1)
            self._streams.append(_median_noise(rows.reshape(-1, rows.shape[-1]), step**2 / 12))


def rounding_noise(rows: torch.Tensor, linear: WrittenLinear) -> float:
    """Computes the noise of a layer's rounding of its input, relative to the power of a usual row.

    Args:
        rows: (S, K) float32.
        linear: says how it rounds.
    """
    if linear.activation == "tensor":
        steps = torch.full((len(rows), 1), linear.activation_step)
    elif linear.activation == "block":
        padded = torch.nn.functional.pad(rows, (0, -rows.shape[1] % linear.block))
        steps = padded.unflatten(1, (-1, linear.block)).abs().amax(-1) / LARGEST
    else:
        steps = rows.abs().amax(-1, keepdim=True) / LARGEST
    return _median_noise(rows, steps.double().square().mean(-1) / 12)


def _median_noise(rows: torch.Tensor, noise: torch.Tensor) -> float:
    power = rows.double().square().mean(-1)
    noise = noise.expand_as(power)
    return float((noise[power > 0] / power[power > 0]).median()) if bool((power > 0).any()) else 0.0


def floor_db(noise: float, layers: int, margin_db: float = MARGIN_DB) -> float:
    """Returns the least signal to noise that rounding leaves, in dB.

    Args:
        noise: that a linear layer adds on average, relative to its signal.
        layers: blocks in series.
        margin_db: left beyond it.
    """
    return -10 * log10(noise) - 10 * log10(1 + layers / 2) - margin_db
