"""Calibration data: conversations about images, as the decoder reads them.

The data is LLaVA-style JSON, `[{"image": "a.jpg", "conversations": [{"from": "human" | "gpt", "value": ...}]}]`, its
images beside it, of the kind the model will have; the first of them are taken. The default's are the first of the
demo's training data (`train/demo/make_data.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess
from mobilevlm.model.splice import splice
from mobilevlm.text.prompt import IMAGE, IMAGE_TOKEN_INDEX, Conversation, template

from ..split.streamed_model import streamed_model

if TYPE_CHECKING:
    from PIL import Image

    from mobilevlm.model.model import MobileVLM

DEFAULT = Path(__file__).parents[1] / "calibration_data" / "conversations.json"
MOST_CONVERSATIONS, MOST_TOKENS = 32, 512


@dataclass(frozen=True)
class Conversations:
    """Rows of a file of conversations, and its path, beside which the images are."""

    path: Path
    rows: list[dict[str, Any]]


def read_conversations(path: Path, most: int = MOST_CONVERSATIONS) -> Conversations:
    """Reads the first rows of a file.

    Args:
        path: LLaVA-style JSON, its images beside it.
        most: rows that are taken.

    Raises:
        UserError: it is no such file, or names images that are not there; says what a row has to be.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--calibration {path} cannot be read as JSON: {error}") from None
    if not isinstance(rows, list) or not rows:
        raise UserError(f"--calibration {path} has to hold a list of conversations, and is {str(rows)[:40]}")
    for number, row in enumerate(rows[:most]):
        if problem := _problem(row, path.parent):
            raise UserError(f"--calibration {path}, row {number}: {problem}")
    return Conversations(path, rows[:most])


def _problem(row: Any, folder: Path) -> str | None:
    turns = row.get("conversations") if isinstance(row, dict) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        return "conversations is missing, empty or no list of objects"
    speakers = [turn.get("from") for turn in turns]
    if speakers != ["human", "gpt"] * (len(turns) // 2) or not all(
        isinstance(turn.get("value"), str) for turn in turns
    ):
        return (
            'turns have to be {"from": "human", "value": TEXT} and {"from": "gpt", "value": TEXT} one after the other'
        )
    missing = [name for name in as_list(row.get("image")) if not (folder / str(name)).is_file()]
    return f"{folder / str(missing[0])} is missing" if missing else None


def embedded(checkpoint: Checkpoint, conversations: Conversations) -> list[torch.Tensor]:
    """Embeds conversations as the decoder reads them, (1, T, D) float32 each; a text-only model's have no images.

    Args:
        checkpoint: the model.
        conversations: their images are beside the file.

    Raises:
        UserError: an image cannot be opened.
    """
    config, tokenizer = checkpoint.config, checkpoint.tokenizer()
    ids, images = [], []
    for row in conversations.rows:
        names = as_list(row.get("image")) if config.vision else []
        segments = _conversation(row, len(names), config).segments(bool(names) and config.mm_use_im_start_end)
        ids.append(torch.tensor([tokenizer.encode(segments)]))
        images += [load_image(conversations.path.parent / name) for name in names]
    model = streamed_model(checkpoint)
    with torch.inference_mode():
        blocks = iter(_encoded(model, images, ImageSpec.of(config)) if images else [])
        table, found = checkpoint.tensors["model.embed_tokens.weight"], []

        def look_up(known: torch.Tensor) -> torch.Tensor:
            return table[known].float()

        for tokens in ids:
            count = int((tokens == IMAGE_TOKEN_INDEX).sum())
            own = [next(blocks) for _ in range(count)] or [torch.empty(0, config.hidden_size)]
            found.append(splice(tokens, own, look_up).inputs_embeds[:, :MOST_TOKENS].clone())
    return found


def _conversation(row: dict[str, Any], num_images: int, config: ModelConfig) -> Conversation:
    talk = Conversation(template(config.conv_mode))
    for number, turn in enumerate(row["conversations"]):
        text = turn["value"].replace(IMAGE.name, "").strip()
        if number % 2:
            talk.answer(text)
        else:
            talk.ask(text, 0 if number else num_images)
    return talk


def _encoded(model: MobileVLM, images: list[Image.Image], spec: ImageSpec) -> list[torch.Tensor]:
    """Projected embeddings of all images in one batch: every weight is read once."""
    return model.encode_images(torch.cat([torch.from_numpy(preprocess(image, spec)) for image in images]))
