"""Calibration data: conversations about images, as the decoder reads them.

The data is LLaVA-style JSON, `[{"image": "a.jpg", "conversations": [{"from": "human" | "gpt", "value": ...}]}]`, its
images beside it, of the kind the model will have, as training reads it (`mobilevlm/rows`); the first rows are taken.
The default's are the first of the demo's training data (`train/demo/make_data.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess
from mobilevlm.model.splice import splice
from mobilevlm.rows.annotations import AnnotationError, read_rows
from mobilevlm.rows.image_names import missing_hint
from mobilevlm.rows.rules import images_of, problem_of, turns_of
from mobilevlm.text.prompt import IMAGE, IMAGE_TOKEN_INDEX, Conversation, template
from mobilevlm.text_file import printable

from ..split.streamed_model import streamed_model

if TYPE_CHECKING:
    from PIL import Image

    from mobilevlm.model.model import MobileVLM

DEFAULT = Path(__file__).parents[1] / "calibration_data" / "conversations.json"
MOST_CONVERSATIONS, MOST_TOKENS = 32, 512


FORM = '{"from": "human", "value": TEXT} and {"from": "gpt", "value": TEXT} one after the other'
MOST_BROKEN = 1000  # rows, none before them usable, after which a file is given up
NAMED = 3  # of the rows that were skipped


@dataclass(frozen=True)
class Conversations:
    """Rows of a file of conversations, and its path, beside which the images are.

    Attributes:
        path: the file.
        rows: each begins with a question.
        skipped: sentences on the rows between them that cannot be used.
    """

    path: Path
    rows: list[dict[str, Any]]
    skipped: tuple[str, ...] = ()


def read_conversations(path: Path, most: int = MOST_CONVERSATIONS) -> Conversations:
    """Reads the first usable rows of a file, by the rules of training; what is behind them is not read.

    Args:
        path: LLaVA-style JSON, or a row per line in a `.jsonl`, its images beside it.
        most: rows that are taken.

    Raises:
        UserError: it is no such file, or none of its rows can be used; says what a row has to be.
    """
    taken: list[dict[str, Any]] = []
    named: list[str] = []
    broken = 0
    try:
        for number, row in enumerate(read_rows(path)):
            if problem := _problem(row, path.parent):
                broken += 1
                named += [f"row {number}{_id_of(row)}: {problem}"] if broken <= NAMED else []
            else:
                taken.append(row | {"conversations": turns_of(row)})
            if len(taken) == most or not taken and broken == MOST_BROKEN:
                break
    except OSError as error:
        raise UserError(f"--calibration {path} cannot be read as JSON: {error.strerror}") from None
    except AnnotationError as error:
        raise UserError(
            f"--calibration {path} has to hold a list of conversations, and cannot be read as JSON: it {error}"
        ) from None
    if not taken:
        first = f"none of the first {broken} rows can be used" if broken else "it holds none"
        where = f", {named[0]}. It has" if broken else " has"
        raise UserError(f"--calibration {path}{where} to hold a list of conversations, and {first}: turns are {FORM}")
    skipped = [f"--calibration {path}, {one}. The row is skipped" for one in named]
    if broken > NAMED:
        skipped.append(f"--calibration {path}: {broken - NAMED} more rows are skipped")
    return Conversations(path, taken, tuple(skipped))


def _problem(row: Any, folder: Path) -> str | None:
    if problem := problem_of(row, "shown"):
        return problem
    missing = next((name for name in images_of(row) if not (folder / name).is_file()), None)
    if missing is None:
        return None
    found = missing_hint(missing, folder)
    return f"{folder / missing} is missing" + (f"; {found}" if found else "")


def _id_of(row: Any) -> str:
    return f" (id {printable(row['id'])[:100]})" if isinstance(row, dict) and "id" in row else ""


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
