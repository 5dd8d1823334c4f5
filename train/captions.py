"""Pictures with captions, as contrastive training takes them: the caption is the text, all of it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobilevlm.image import ImageSpec
from mobilevlm.templates import TEMPLATES
from mobilevlm.tokenizer import Tokenizer

from .data import NOTES, TrainingRows


class CaptionRows(TrainingRows):
    """Rows of a picture and two turns, the second of which is the caption; broken ones are replaced and counted."""

    def __init__(
        self, rows: list[dict[str, Any]], tokenizer: Tokenizer, max_length: int, spec: ImageSpec, images: Path
    ):
        super().__init__(rows, tokenizer, TEMPLATES["plain"], max_length, spec, images)

    def _row(self, number: int) -> dict[str, Any]:
        row = super()._row(number)
        caption = self.rows[number]["conversations"][1]["value"].strip()
        ids = self.tokenizer.encode([caption])[: self.max_length - 1] + [self.tokenizer.eos_id]
        return {"input_ids": torch.tensor(ids), "pixel_values": row["images"], "warning": None}


@dataclass(frozen=True)
class CaptionCollator:
    """Makes a batch: captions padded on the right with `pad_id`, pictures stacked."""

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`pixel_values` (B, 3, H, W), `input_ids` and `attention_mask` (B, T), `NOTES`."""
        ids = [row["input_ids"] for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return {
            "pixel_values": torch.cat([row["pixel_values"] for row in rows]),
            "input_ids": pad(ids, batch_first=True, padding_value=self.pad_id),
            "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
            NOTES: [note for row in rows for note in row[NOTES]],
        }
