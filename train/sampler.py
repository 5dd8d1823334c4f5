"""Order of the training rows: batches of like length, rows with images apart from rows of text alone.

The order is the original's to the number, and depends on seed and epoch alone, so that a resumed run continues with the
row the broken one would have taken. A batch here counts as one of the recipe's batches however many processes take it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import torch
from torch.utils.data import Sampler


def grouped_indices(
    lengths: Sequence[int], batch_size: int, batches: int, generator: torch.Generator | None = None
) -> list[int]:
    """Returns every index once; each megabatch (`batches` * `batch_size`) holds rows of like length and one modality.

    Args:
        lengths: words per row, negative for rows without an image, never 0.
        batch_size: rows per batch.
        batches: batches that are taken at once (the original's number of GPUs).
        generator: source of randomness; None is torch's global one.

    Raises:
        ValueError: a length is 0.
    """
    if 0 in lengths:
        raise ValueError(f"row {list(lengths).index(0)} has length 0")
    kinds = [[i for i, length in enumerate(lengths) if (length > 0) is has_image] for has_image in (True, False)]
    sizes = [abs(length) for length in lengths]
    if not all(kinds):  # one modality, at which the original crashes
        return _flat(length_grouped(range(len(lengths)), sizes, batch_size, batches, generator))
    megabatch = batch_size * batches
    full, rest = [], []
    for indices in kinds:
        order = _flat(length_grouped(indices, sizes, batch_size, batches, generator))
        pieces = [order[start : start + megabatch] for start in range(0, len(order), megabatch)]
        full += pieces[:-1]
        rest += pieces[-1]
    full = [full[i] for i in torch.randperm(len(full), generator=generator)]
    if len(rest) >= megabatch:
        full = [rest[:megabatch], *full]
        rest = rest[megabatch:]
    return _flat([*full, rest])


def length_grouped(
    indices: Sequence[int], sizes: Sequence[int], batch_size: int, batches: int, generator: torch.Generator | None
) -> list[list[int]]:
    """Returns batches of the shuffled indices, longest first within each megabatch and evenly long across its batches.

    Args:
        indices: the indices to put in order.
        sizes: words per row, by index.
        batch_size: rows per batch.
        batches: batches in a megabatch.
        generator: source of randomness; None is torch's global one.
    """
    order = [indices[i] for i in torch.randperm(len(indices), generator=generator)]
    result = []
    for start in range(0, len(order), batch_size * batches):
        piece = sorted(order[start : start + batch_size * batches], key=lambda i: sizes[i], reverse=True)
        result += _evenly(piece, sizes, batches)
    return result


def _evenly(indices: list[int], sizes: Sequence[int], count: int) -> list[list[int]]:
    """Deals indices to `count` chunks of equal number, each to the one that is shortest so far."""
    if len(indices) % count:
        return [indices[start::count] for start in range(count)]
    chunks: list[list[int]] = [[] for _ in range(count)]
    totals: list[float] = [0.0] * count
    for index in indices:
        shortest = totals.index(min(totals))
        chunks[shortest].append(index)
        totals[shortest] += sizes[index]
        if len(chunks[shortest]) == len(indices) // count:
            totals[shortest] = float("inf")
    return chunks


def _flat(pieces: Sequence[Sequence[int]]) -> list[int]:
    return [index for piece in pieces for index in piece]


class EpochSampler(Sampler[int]):
    """Sampler of a shuffled order, by length and modality if asked, that is the same for the same seed and epoch.

    An epoch ends with a full global batch, filled up from its beginning: otherwise its last step would depend on how
    many processes share it.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, batches: int, seed: int, grouped: bool):
        """Takes the rows' lengths.

        Args:
            lengths: words per row as in `grouped_indices`; only their number counts unless `grouped`.
            batch_size: rows per batch.
            batches: batches in a step.
            seed: seed of the order, together with the epoch.
            grouped: whether batches hold rows of like length and one modality.
        """
        self.lengths, self.batch_size, self.batches = lengths, batch_size, batches
        self.seed, self.grouped, self.epoch = seed, grouped, 0

    def __len__(self) -> int:
        step = self.batch_size * self.batches
        return -(-len(self.lengths) // step) * step

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.grouped:
            order = grouped_indices(self.lengths, self.batch_size, self.batches, generator)
        else:
            order = torch.randperm(len(self.lengths), generator=generator).tolist()
        return islice(cycle(order), len(self))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next."""
        self.epoch = epoch
