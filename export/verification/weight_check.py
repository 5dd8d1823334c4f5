"""Compares every weight that a build wrote with the checkpoint's, layer by layer, before anything runs.

What a stage computes tells of a mistake in one row of one layer only where rounding is finer than that: behind int4
weights it is lost. Weights themselves tell. A layer's quantised form is the checkpoint's weight and noise, so the
least-squares gain of one on the other is near 1 in every row, column and block, whatever the precision and however its
values were chosen; of rows or columns that were swapped, or another layer's, it is near 0, of a scale that is wrong by
two it is 2. 8-bit weights are rounded to the nearest step each, so that none is off by more than half of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from mobilevlm.checkpoint.config import ModelConfig

from ..split.tensor_data import to_numpy
from ..split.vision import CLIP
from .written_weights import WrittenGraph, WrittenLinear

# Smallest and largest gain. Of 256 weights with int4's noise of -14 dB it is within 0.15 of 1 in the row that GPTQ
# moved most, and in a block of 32 within 0.25; one row's on another is below 0.3.
ROW_GAIN, COLUMN_GAIN, BLOCK_GAIN = (0.6, 1.4), (0.88, 1.12), (0.62, 1.5)
COLUMN_CORRELATION = 0.7  # int4's least is 0.86; a column of extremes has less, whatever its gain
NEAREST = 0.51  # of a step may a weight be off that was rounded to the nearest, as all of 8 bits are
# Of a float's size: of one that was narrowed to float16, and of what was computed in float32 or float64 once more.
HALF_ERROR, FLOAT_ERROR = 2.0**-10, 1e-6
ROWS = 128  # of layers without blocks, looked at together
FLAT = 1e-3  # of a layer's usual row or column: what is smaller has no gain to speak of


@dataclass(frozen=True)
class WeightFault:
    """A weight that is not the checkpoint's.

    Attributes:
        file: that it was read from.
        layer: its name.
        problem: what differs, with the figure and its bounds.
    """

    file: str
    layer: str
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, {self.layer}: {self.problem}"


@dataclass(frozen=True)
class WeightCheck:
    """Result of comparing a stage's weights.

    Attributes:
        noise: layer to the power of its weights' error over that of its weights.
        faults: weights that are not the checkpoint's.
    """

    noise: dict[str, float]
    faults: list[WeightFault]


def check_weights(
    graphs: Mapping[str, WrittenGraph],
    source: Mapping[str, torch.Tensor],
    expected: Iterable[str],
    tables: Mapping[str, np.ndarray],
) -> WeightCheck:
    """Compares a stage's graphs with the tensors they were written from.

    Args:
        graphs: by file name.
        source: the checkpoint's tensors, equalised where the graphs' are.
        expected: names of the weights that the stage has to hold.
        tables: what else the graphs hold under a name of its own, see `tables_of`.
    """
    noise, faults, seen = {}, [], set()
    for file, graph in graphs.items():
        for name in graph.linears:
            written, layers = graph.linear(name), packed_layers(graph, name)
            seen |= {f"{layer}.weight" for layer in layers}
            exact = np.concatenate([_matrix(source, layer) for layer in layers], axis=1)
            noise[name], problem = _compare(written, exact)
            faults += [WeightFault(file, name, problem)] if problem else []
        for name in graph.others:
            if name.endswith(".bias") and name in source:
                names = [name, *_beside(name)]
                (got, step), seen = graph.other(name), seen | {name}
                parts = [to_numpy(source[one]) for one in names if one in source]
                wanted = np.concatenate(parts)[: got.size]  # alone, or side by side
                seen |= set(names) if got.size > len(parts[0]) else set()
            elif name in source:
                (got, step), wanted = graph.other(name), to_numpy(source[name])
            elif name in tables:
                (got, step), wanted = graph.other(name), tables[name]
            else:
                continue
            seen.add(name)
            if not graph.is_read(name):
                faults.append(WeightFault(file, name, "is not read"))
            if got.dtype.kind == "f" and not is_close(got, wanted, step):
                faults.append(WeightFault(file, name, "differs from the checkpoint's"))
    faults += [WeightFault("all graphs", name, "is missing") for name in expected if name not in seen]
    return WeightCheck(noise, faults)


def tables_of(config: ModelConfig, source: Mapping[str, torch.Tensor], rows: int) -> dict[str, np.ndarray]:
    """Computes the tables that graphs hold in another form than the checkpoint.

    Args:
        config: the model.
        source: its tensors.
        rows: of the kv cache, and so of RoPE's tables.
    """
    half = config.head_dim // 2
    angles = np.arange(rows)[:, None] * config.rope_theta ** (-np.arange(half) / half)
    tables = {"rope.cos": np.cos(angles), "rope.sin": np.sin(angles)}
    if config.vision is not None:
        positions = to_numpy(source[f"{CLIP}embeddings.position_embedding.weight"])
        if config.vision.has_class_token:
            tables["position_embedding.patches"] = positions[1:]
            tables["class_embedding"] = to_numpy(source[f"{CLIP}embeddings.class_embedding"]) + positions[0]
        else:
            bias = to_numpy(source[f"{CLIP}embeddings.patch_embedding.bias"])
            tables["position_embedding.patches"] = positions + bias
    return tables


def packed_layers(graph: WrittenGraph, name: str) -> list[str]:
    """Returns the layers that lie side by side in one product: query, key and value, or one alone.

    Args:
        graph: that holds the product.
        name: of the product's first layer, without `.weight`.
    """
    beside = _qkv(name) if name.endswith("q_proj") else [name]
    return [name] if set(beside[1:]) & set(graph.linears) else beside


def _beside(bias: str) -> list[str]:
    """Biases that may lie behind a query's."""
    layer = bias.removesuffix(".bias")
    return [f"{one}.bias" for one in _qkv(layer)[1:]] if layer.endswith("q_proj") else []


def _qkv(query: str) -> list[str]:
    return [query.removesuffix("q_proj") + f"{part}_proj" for part in "qkv"]


def _matrix(source: Mapping[str, torch.Tensor], layer: str) -> np.ndarray:
    weight = to_numpy(source[f"{layer}.weight"])
    return weight.reshape(len(weight), -1).T


def is_close(got: np.ndarray, wanted: np.ndarray, step: np.ndarray | float = 0.0) -> bool:
    """Compares values as far as the type of `got`, or half a quantisation step, can hold them.

    Args:
        got: the stored values.
        wanted: the checkpoint's, of as many elements.
        step: quantisation step of each value, 0 for floats.
    """
    wanted = wanted.reshape(got.shape)
    relative, least = (HALF_ERROR, 1e-7) if got.dtype == np.float16 else (FLOAT_ERROR, 1e-7)
    return bool((np.abs(got.astype(np.float32) - wanted) <= relative * np.abs(wanted) + least + NEAREST * step).all())


def _compare(written: WrittenLinear, exact: np.ndarray) -> tuple[float, str]:
    """Relative power of a weight's error, and what is wrong with it; empty where nothing is."""
    weight, step = written.weight, written.step
    if weight.shape != exact.shape:
        return 1.0, f"has the shape {weight.shape} and not {exact.shape}"
    if not np.isfinite(weight).all():
        return 1.0, "is not finite"
    if not step.any():
        good = is_close(weight.astype(written.stored), exact)
        error = np.square(weight - exact, dtype=np.float64).sum() / (np.square(exact, dtype=np.float64).sum() or 1.0)
        return float(error), "" if good else "differs from the checkpoint's"
    sums = _Sums(weight, exact, step, written.block)
    noise = sums.error / (float(sums.exact(0).sum()) or 1.0)
    for what, axis, (low, high) in (("row", 1, ROW_GAIN), ("column", 0, COLUMN_GAIN)):
        gain = sums.gain(axis)
        if not (low <= gain.min() and gain.max() <= high):
            worst = int(np.abs(gain - 1).argmax())
            return noise, f"{what} {worst} is {gain[worst]:.2f} times the checkpoint's, not {low:g} to {high:g}"
    alike = sums.correlation(0)
    if alike.min() < COLUMN_CORRELATION:
        worst = int(alike.argmin())
        found = f"{alike[worst]:.2f}, not {COLUMN_CORRELATION:g} or more"
        return noise, f"column {worst} correlates with the checkpoint by {found}"
    if written.block and (found := _worst_block(sums)):
        return noise, found
    if written.stored.kind == "i" and not written.block and sums.steps > NEAREST:
        return noise, f"a weight is off by {sums.steps:.2f} of its step, not {NEAREST:g} or less"
    return noise, ""


class _Sums:
    """Sums of squares and products of two (K, N) matrices by row, by column, and by block of a column.

    Both are gone through once, a block at a time, which stays in a core's cache: a model has billions of weights. A
    block of a column has one step.

    Attributes:
        steps: the largest difference in steps, where blocks are whole columns; otherwise 0.
        error: power of the differences.
    """

    def __init__(self, weight: np.ndarray, exact: np.ndarray, step: np.ndarray, block: int):
        size, (rows, columns) = block or ROWS, weight.shape
        count = -(-rows // size)
        step, self.steps, self.error = np.broadcast_to(step, weight.shape), 0.0, 0.0
        by_row = {name: np.zeros(rows) for name in ("both", "exact", "step")}
        by_block = {name: np.zeros((count, columns)) for name in ("both", "exact", "weight", "step")}
        for number in range(count):
            part = slice(number * size, (number + 1) * size)
            one, other, width = weight[part], exact[part], np.square(step[number * size])
            for name, (left, right) in {"both": (one, other), "exact": (other, other)}.items():
                np.einsum("ij,ij->i", left, right, out=by_row[name][part], dtype=np.float32, casting="same_kind")
                by_block[name][number] = np.einsum("ij,ij->j", left, right)
            by_block["weight"][number] = np.einsum("ij,ij->j", one, one)
            by_row["step"][part], by_block["step"][number] = width.sum(), width * len(one)
            error = one - other
            self.error += float(np.vdot(error, error))
            if not block:
                error /= step[number * size]
                self.steps = max(self.steps, float(error.max()), -float(error.min()))
        self._sums = {name: [by_block[name].sum(0), by_row.get(name), by_block[name]] for name in by_block}

    def exact(self, axis: int) -> np.ndarray:
        """Power of the exact weights: 0 by column, 1 by row, 2 by block."""
        return self._sums["exact"][axis]

    def gain(self, axis: int) -> np.ndarray:
        """Least-squares gain of the written on the exact weights; 1 where these are lost in their steps."""
        return self._where_seen(axis, self.exact(axis))

    def correlation(self, axis: int) -> np.ndarray:
        """Cosine between the written and the exact weights; 1 where these are lost in their steps."""
        return self._where_seen(axis, np.sqrt(self.exact(axis) * self._sums["weight"][axis]))

    def _where_seen(self, axis: int, power: np.ndarray) -> np.ndarray:
        exact, step = self.exact(axis), self._sums["step"][axis]
        seen = (exact > FLAT * exact.mean()) & (exact > step)  # weights of a step's size and more
        return np.where(seen, self._sums["both"][axis] / np.maximum(power, 1e-30), 1.0)


def _worst_block(sums: _Sums) -> str:
    gain = sums.gain(2)
    low, high = BLOCK_GAIN
    if low <= gain.min() and gain.max() <= high:
        return ""
    group, column = np.unravel_index(np.abs(gain - 1).argmax(), gain.shape)
    return (
        f"block {group} of column {column} is {gain[group, column]:.2f} times the checkpoint's, not {low:g} to {high:g}"
    )
