"""Rows of images with captions for contrastive training: the caption is the text, and all of it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mobilevlm.image import ImageSpec, preprocess
from mobilevlm.rows.rules import images_of
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.text.tokenizer import Tokenizer

from .data import NOTES, TrainingRows, load_row_image
from .lazy_rows import Rows
from .regions import RegionVocabulary
from .special_ids import special_id


class CaptionRows(TrainingRows):
    """Rows of an image and two turns, the second of which is the caption; broken rows are replaced and counted.

    Args:
        rows: see `data.read_rows`.
        tokenizer: splits the captions.
        max_length: longest caption, in tokens, with BOS and EOS.
        spec: the tower's preprocessing.
        images: directory that the rows' file names are relative to.
        regions: attributes of the rows' `regions`; None if regions are not learned.
        grid: patches along an edge of the tower's image; needed with `regions`.

    Raises:
        UserError: no row can be used, or the tokenizer names no EOS token.
    """

    def __init__(
        self,
        rows: Rows,
        tokenizer: Tokenizer,
        max_length: int,
        spec: ImageSpec,
        images: Path,
        regions: RegionVocabulary | None = None,
        grid: int = 0,
    ):
        super().__init__(rows, tokenizer, TEMPLATES["plain"], max_length, spec, images)
        self.spec, self.folder, self.end = spec, images, special_id(tokenizer, "eos")
        self.regions, self.grid = regions, grid

    def _row(self, number: int) -> dict[str, Any]:
        row = self.checked(number)
        caption = row["conversations"][1]["value"].strip()
        ids = self.tokenizer.encode([caption])[: self.max_length - 1] + [self.end]
        image = load_row_image(images_of(row)[0], self.folder)
        pixels = torch.from_numpy(preprocess(image, self.spec))
        result = {"input_ids": torch.tensor(ids), "pixel_values": pixels, "warning": None}
        if self.regions:
            square = max(image.size) if self.spec.aspect_ratio == "pad" else min(image.size)
            result["regions"] = self.regions.targets(row, image.size, square, self.grid)
        return result


@dataclass(frozen=True)
class CaptionCollator:
    """Collates a batch: captions padded on the right with `pad_id`, images stacked."""

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns `pixel_values` (B, 3, H, W), `input_ids` and `attention_mask` (B, T), `regions` and `NOTES`."""
        ids = [row["input_ids"] for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        batch: dict[str, Any] = {
            "pixel_values": torch.cat([row["pixel_values"] for row in rows]),
            "input_ids": pad(ids, batch_first=True, padding_value=self.pad_id),
            "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
        }
        if "regions" in rows[0]:
            batch["regions"] = torch.stack([row["regions"] for row in rows])
        return batch | {NOTES: [note for row in rows for note in row[NOTES]]}
