"""Training rows: LLaVA-style JSON; images are read when they are needed, broken rows are replaced and counted.

A row is `{"id": ..., "image": "a.jpg" | ["a.jpg", ...], "conversations": [{"from": "human" | "gpt", "value": ...}]}`,
`image` being optional. A run must not end in its ninth hour over one bad file: a row that cannot be used is replaced by
the next usable one of the same kind, and is reported by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from mobilevlm.errors import UserError
from mobilevlm.image import ImageError, ImageSpec, load_image, preprocess
from mobilevlm.rows.image_names import missing_hint
from mobilevlm.rows.rules import form_of, images_of
from mobilevlm.text.prompt import IGNORE_INDEX, IMAGE, IMAGE_TOKEN_INDEX, Template
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.text_file import printable

from .lazy_rows import LazyRows, Rows
from .masking import RowError, mask
from .survey import Survey

NOTES = "notes"  # the key under which a batch says what happened to its rows


def read_rows(path: Path) -> LazyRows:
    """Rows of a JSON list, or of one JSON object per line (`.jsonl`); errors are raised when rows are read."""
    return LazyRows(path)


def _texts(row: dict[str, Any]) -> list[str]:
    """Texts of the turns; a turn may name its one image twice, as the original allows."""
    texts = [turn["value"] for turn in row["conversations"]]
    if isinstance(row.get("image"), str):
        return [_one_image(text) if IMAGE.name in text else text for text in texts]
    return texts


def _one_image(text: str) -> str:
    return f"{IMAGE.name}\n" + text.replace(IMAGE.name, "").strip()


class TrainingRows(Dataset):
    """Rows as tokens, labels and pixels.

    Attributes:
        lengths: words per row, negative for rows without an image, as `sampler.grouped_indices` wants them.
        malformed: number of each row whose form is wrong, with the problem.
    """

    def __init__(
        self,
        rows: Rows,
        tokenizer: Tokenizer,
        template: Template,
        max_length: int,
        image_spec: ImageSpec | None = None,
        images_dir: Path | None = None,
        start_end: bool = False,
        survey: Survey | None = None,
    ):
        """Checks the form of all rows.

        Args:
            rows: see `read_rows`.
            tokenizer: the model's tokenizer.
            template: wording of a conversation.
            max_length: `model_max_length` of the recipe, in tokens.
            image_spec: the model's preprocessing; None for a model without vision.
            images_dir: directory that the rows' file names are relative to.
            start_end: `mm_use_im_start_end` of the checkpoint.
            survey: what `Survey.of` found in these rows for this template; None to make the survey here.

        Raises:
            UserError: no row can be used.
        """
        self.rows, self.tokenizer, self.template, self.max_length = rows, tokenizer, template, max_length
        self.image_spec, self.images_dir, self.start_end = image_spec, images_dir, start_end
        survey = survey or Survey.of(rows, form_of(template), image_spec is not None)
        self.malformed, self.lengths = survey.malformed, survey.lengths
        if len(self.malformed) == len(rows):
            raise UserError(f"none of the {len(rows)} rows can be used; row 0: {self.malformed[0]}")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Returns `input_ids`, `labels` (T,) int64, `NOTES`, and with vision `images` (n, 3, H, W) float32."""
        notes = []
        for candidate in self._candidates(number):
            try:
                row = self._row(candidate)
            except (RowError, ImageError) as error:
                notes.append((candidate, "replaced", f"row {self._name(candidate)} is replaced: {error}"))
                continue
            if row.pop("warning"):
                notes.append((candidate, "unlearned", f"nothing is learned from row {self._name(candidate)}"))
            return row | {NOTES: notes}
        raise UserError(f"none of the {len(self.rows)} rows can be used; {notes[0][2]}")

    def _name(self, number: int) -> str:
        row = self.rows[number]
        return f"{number} (id {printable(row.get('id'))})" if isinstance(row, dict) else str(number)

    def _candidates(self, number: int) -> Iterator[int]:
        """Yields the row, then those after it: first of its kind (with or without an image), then any."""
        yield number
        for same_kind in (True, False):
            for step in range(1, len(self.rows)):
                other = (number + step) % len(self.rows)
                if ((self.lengths[other] > 0) == (self.lengths[number] > 0)) == same_kind:
                    yield other

    def checked(self, number: int) -> dict[str, Any]:
        """Returns a row as it was read.

        Raises:
            RowError: its form is wrong.
        """
        if number in self.malformed:
            raise RowError(self.malformed[number])
        return self.rows[number]

    def _row(self, number: int) -> dict[str, Any]:
        row = self.checked(number)
        names = images_of(row)
        speakers = [turn["from"] for turn in row["conversations"]]
        turns = list(zip(speakers, _texts(row) if names else [t["value"] for t in row["conversations"]], strict=True))
        masked = mask(turns, self.template, self.tokenizer, bool(names), self.max_length, self.start_end)
        result = {"input_ids": torch.tensor(masked.input_ids), "labels": torch.tensor(masked.labels)}
        if self.image_spec:
            result["images"] = self._images(names, self.image_spec)
        return result | {"warning": masked.warning}

    def _images(self, names: list[str], spec: ImageSpec) -> torch.Tensor:
        """Pixels of the images, or zeros for a row of text, because every row uses up a block of image embeddings."""
        if not names:
            return torch.zeros(1, 3, spec.image_size, spec.image_size)
        folder = self.images_dir or Path()
        return torch.cat([torch.from_numpy(preprocess(load_row_image(name, folder), spec)) for name in names])


def load_row_image(name: str, images: Path) -> Image.Image:
    """Reads an image that a row names, see `load_image`.

    Args:
        name: as the row has it.
        images: directory that it is relative to.

    Raises:
        ImageError: it cannot be read; the message has the file that is probably meant, if there is one.
    """
    try:
        return load_image(images / name)
    except ImageError as error:
        found = "" if (images / name).exists() else missing_hint(name, images)
        raise ImageError(f"{error} But {found}." if found else str(error)) from None


@dataclass(frozen=True)
class Collator:
    """Collates a batch of rows: padded on the right, cut to `max_length`, images stacked.

    Attributes:
        pad_id: id that pads `input_ids` (the original's: `<unk>`); the attention mask is 0 wherever it stands.
        max_length: longest `input_ids`; an image token counts as one.
        length_step: batches are padded to a multiple of this length.
    """

    pad_id: int
    max_length: int
    length_step: int = 1

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Returns `input_ids`, `labels`, `attention_mask` (B, T), `NOTES`, and with vision `images` (n, 3, H, W)."""
        ids = [row["input_ids"][: self.max_length] for row in rows]
        input_ids = self._padded(ids, self.pad_id)
        batch: dict[str, Any] = {
            "input_ids": input_ids,
            "labels": self._padded([row["labels"][: self.max_length] for row in rows], IGNORE_INDEX),
            "attention_mask": input_ids.ne(self.pad_id),
        }
        if "images" in rows[0]:
            # An image whose token was cut off is dropped, except a row's first: every row uses up at least one.
            kept = [max(1, int((row_ids == IMAGE_TOKEN_INDEX).sum())) for row_ids in ids]
            batch["images"] = torch.cat([row["images"][:count] for row, count in zip(rows, kept, strict=True)])
        return batch | {NOTES: [note for row in rows for note in row[NOTES]]}

    def _padded(self, rows: list[torch.Tensor], value: int) -> torch.Tensor:
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)
        return torch.nn.functional.pad(padded, (0, -padded.shape[1] % self.length_step), value=value)
