"""Runs PyTorch on the weights that a build wrote, and compares the stages with it, down to rows of the kv cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.engines import stages

from .differences import FORM, UNROUNDED, Difference, difference
from .written_form import ROW_MARGIN_DB, WrittenForm, WrittenWeights, floor_db
from .written_weights import Written

# An int8 kv cache's own rounding: a channel's scale is its largest value, and a quarter more, over 127
# (`decoder_activations.py`).
INT8_CACHE_NOISE = (1.25 * 4) ** 2 / 127**2 / 12
# Float32 arithmetic in another order, through all layers of a stage: 117 dB and more were seen, 84 with constants in
# float16. Half of RoPE left out of one layer leaves 51 at most.
UNROUNDED_DB = 60.0
WHATEVER = 2.0  # of the largest value may differ: decibels are looked at
Caches = Mapping[tuple[int, str], np.ndarray]


class Form:
    """PyTorch on the weights of the written stages.

    Args:
        checkpoint: the model.
        written: the graphs, and the tensors they were written from.
        directory: where they are.
        noise: by stage and layer, of the weights (`stage_weights.py`).
        on_layer: called after each layer that runs.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        written: Written,
        directory: Path,
        noise: Mapping[str, Mapping[str, float]],
        on_layer: Callable[[], object],
    ):
        self._checkpoint, self._written, self._directory = checkpoint, written, directory
        self._noise, self._on_layer = noise, on_layer
        self._rounding: dict[str, float] = {}
        self._margin: dict[str, float] = {}

    @torch.inference_mode()
    def run(
        self, golden: Mapping[str, np.ndarray], all_rows: np.ndarray, first: int
    ) -> tuple[dict[str, dict[str, np.ndarray]], Caches]:
        """Runs the sample as the stages did.

        Args:
            golden: the sample, and its answer.
            all_rows: (1, S, D) float32, of prompt and answer.
            first: rows of the prompt that the prefill takes, where there is one.

        Returns:
            Outputs by stage and name, and the kv cache by layer and part, (1, kv heads, rows, head_dim).
        """
        found: dict[str, dict[str, np.ndarray]] = {}
        if stages.VISION in self._written.graphs:
            pixels = torch.from_numpy(golden[stages.PIXEL_VALUES])
            form = self._opened(stages.VISION)
            found[stages.VISION] = {stages.IMAGE_EMBEDS: form.model.encode_images(pixels)[0][None].numpy()}
            self._note(stages.VISION, form)
        rows, past, name = torch.from_numpy(all_rows), None, stages.DECODER
        if stages.PREFILL in self._written.graphs:
            form = self._opened(stages.PREFILL)
            output = form.model(inputs_embeds=rows[:, :first], use_cache=True, logits_to_keep=1)
            self._note(stages.PREFILL, form)
            found[stages.PREFILL] = {stages.FIRST_LOGITS: output.logits[0].numpy()}
            rows, past, name = rows[:, first:], output.past_key_values, stages.PREFILL
        form = self._opened(stages.DECODER)
        output = form.model(inputs_embeds=rows, past_key_values=past, use_cache=True)
        self._note(stages.DECODER, form)
        answered = len(golden["tokens"])
        found[stages.DECODER] = {stages.LOGITS: output.logits[0, -answered:].numpy()}
        if name == stages.DECODER:
            found[name][stages.FIRST_LOGITS] = output.logits[0, first - 1][None].numpy()
        layers = enumerate(output.past_key_values.layers)
        caches = {
            (n, part): value.numpy()
            for n, one in layers
            for part, value in zip(stages.CACHE_PARTS, (one.keys, one.values), strict=True)
        }
        return found, caches

    def _note(self, stage: str, form: WrittenForm) -> None:
        self._rounding[stage], self._margin[stage] = form.rounding, form.margin_db

    def rounding_floor(self, stage: str) -> float:
        """Returns the floor of a stage's outputs where only the rounding of activations counts, in dB."""
        stage = stage.split(".")[0]
        return floor_db(self._rounded(stage), self._depth(stage), self._margin[stage])

    def cache_floor(self, stage: str) -> float:
        """Returns the floor of a stage's kv cache, which is written on the way, in dB."""
        stage = stage.split(".")[0]
        return floor_db(self._rounded(stage), self._depth(stage))

    def floor(self, stage: str) -> float:
        """Returns the floor of a stage's outputs where activations and weights are rounded, in dB."""
        stage = stage.split(".")[0]
        sources = {stage, self._written.written_from.get(stage, stage)}
        weights = sum(float(np.mean(list(self._noise[one].values()))) for one in sources)
        return floor_db(self._rounded(stage) + weights, self._depth(stage), self._margin[stage])

    def _rounded(self, stage: str) -> float:
        return self._rounding[stage] + self._written.arithmetic_noise + INT8_CACHE_NOISE * self._has_int8_cache(stage)

    def _has_int8_cache(self, stage: str) -> bool:
        return stage == stages.DECODER and (stages.PREFILL in self._written.graphs or self._written.result_bits > 0)

    def _depth(self, stage: str) -> int:
        config = self._checkpoint.config
        return config.num_vision_layers if stage == stages.VISION else config.num_hidden_layers

    def _opened(self, stage: str) -> WrittenForm:
        weights = WrittenWeights(self._written.opened(stage, self._directory), self._written.sources[stage])
        return WrittenForm(self._checkpoint, weights, self._on_layer, self._written.result_bits)


def compare_with_forms(
    form: Form,
    golden: Mapping[str, np.ndarray],
    all_rows: np.ndarray,
    outputs: Mapping[str, Mapping[str, np.ndarray]],
    caches: Mapping[str, Caches],
    unrounded: Mapping[str, Mapping[str, np.ndarray]],
    first: int,
) -> list[Difference]:
    """Compares what stages gave with PyTorch on the weights that were written.

    Args:
        form: that PyTorch.
        golden: the sample, and its answer.
        all_rows: (1, S, D) float32, of prompt and answer.
        outputs: by stage and name.
        caches: of each decoder, see `Stages.caches`.
        unrounded: see `Stages.unrounded`.
        first: rows of the prompt's first part.

    Returns:
        Every output; of the kv cache the worst layer and the worst row of any layer.
    """
    wanted, wanted_caches = form.run(golden, all_rows, first)
    found = []
    for stage, tensors in outputs.items():
        floor = form.rounding_floor(stage)
        for name, got in tensors.items():
            exact = wanted[stage.split(".")[0]][name]
            found.append(difference(f"{stage}{FORM}", name, got, exact, WHATEVER, floor))
    for stage, tensors in unrounded.items():
        for name, got in tensors.items():
            found.append(difference(f"{stage}{UNROUNDED}", name, got, wanted[stage][name], WHATEVER, UNROUNDED_DB))
    for stage, cache in caches.items():
        floor = form.cache_floor(stage)
        layers = [(key, got, wanted_caches[key]) for key, got in cache.items()]
        found.append(
            min(
                (
                    difference(f"{stage}{FORM}", stages.present(*key), got, exact, WHATEVER, floor)
                    for key, got, exact in layers
                ),
                key=lambda one: np.nan_to_num(one.snr_db, nan=-np.inf),
            )
        )
        key, row, got, exact = min((_worst_row(*layer) for layer in layers), key=lambda one: one[0])[1]
        name = f"{stages.present(*key)}[{row}]"
        found.append(difference(f"{stage}{FORM}", name, got, exact, WHATEVER, floor - ROW_MARGIN_DB))
    return found


def _worst_row(
    key: tuple[int, str], got: np.ndarray, exact: np.ndarray
) -> tuple[float, tuple[tuple[int, str], int, np.ndarray, np.ndarray]]:
    """The row of a layer's cache with the least signal to noise: that ratio, and the layer, row and both values."""
    noise = np.square(got - exact, dtype=np.float64).sum((0, 1, 3))
    signal = np.square(exact, dtype=np.float64).sum((0, 1, 3))
    ratio = np.nan_to_num(signal / np.maximum(noise, 1e-30), nan=0.0)
    row = int(ratio.argmin())
    return float(ratio[row]), (key, row, got[:, :, row], exact[:, :, row])
