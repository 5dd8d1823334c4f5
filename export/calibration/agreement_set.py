"""Data that a board compares candidates on: conversations, and PyTorch's likeliest tokens in their answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.image import ImageSpec, as_list, load_image, preprocess
from mobilevlm.model.projectors import num_image_tokens
from mobilevlm.model.splice import splice
from mobilevlm.text.prompt import IMAGE, IMAGE_TOKEN_INDEX, Conversation, template
from mobilevlm.text.tokenizer import Tokenizer

from ..split.streamed_model import streamed_model
from .conversations import Conversations

CHECKED = 4  # one conversation of so many is kept from calibration


@dataclass(frozen=True)
class Talk:
    """A conversation as it is written.

    Attributes:
        ids: of its tokens, -200 for an image.
        answers: places of the answers' tokens among them.
    """

    ids: list[int]
    answers: list[int]


def held_back(conversations: Conversations) -> tuple[Conversations, Conversations]:
    """Splits conversations into those to calibrate on and those to check with; the same where there are few."""
    rows = conversations.rows
    if len(rows) < CHECKED:
        return conversations, conversations
    known = [row for number, row in enumerate(rows, 1) if number % CHECKED]
    return Conversations(conversations.path, known), Conversations(conversations.path, rows[CHECKED - 1 :: CHECKED])


def make_check(checkpoint: Checkpoint, conversations: Conversations) -> dict[str, np.ndarray]:
    """Makes questions to a bundle, and PyTorch's answers in float32.

    Args:
        checkpoint: the model.
        conversations: with their answers.

    Returns:
        ids: of all conversations, one behind the other, (T,) int64, -200 for an image; `lengths` (C,) of each.
        pixel_values: (P, 3, H, H) float32 in the order in which they are shown; missing for a text-only model.
        rows: those of a conversation behind which an answer's token comes, (A,) int64; `counts` (C,) of each.
        tokens: PyTorch's likeliest there, (A,) int64, each behind the conversation as it is written.

    Raises:
        UserError: an image cannot be opened.
    """
    config, tokenizer, model = checkpoint.config, checkpoint.tokenizer(), streamed_model(checkpoint)
    talks, pixels = [], []
    for row in conversations.rows:
        names = as_list(row.get("image")) if config.vision else []
        talks.append(_talk(row, len(names), tokenizer, config))
        pixels += [preprocess(load_image(conversations.path.parent / name), ImageSpec.of(config)) for name in names]
    table, rows, tokens = checkpoint.tensors["model.embed_tokens.weight"], [], []
    per_image = num_image_tokens(config) if pixels else 1
    with torch.inference_mode():
        # All in one batch: every weight is read once.
        blocks = iter(model.encode_images(torch.from_numpy(np.concatenate(pixels))) if pixels else [])
        for talk in talks:
            own = [next(blocks) for _ in range(talk.ids.count(IMAGE_TOKEN_INDEX))]
            own = own or [torch.empty(0, config.hidden_size)]
            embeds = splice(torch.tensor([talk.ids]), own, lambda known: table[known].float()).inputs_embeds
            before = np.cumsum([per_image if token == IMAGE_TOKEN_INDEX else 1 for token in talk.ids])
            rows.append(before[np.array(talk.answers) - 1] - 1)
            logits = model(inputs_embeds=embeds, use_cache=False).logits[0]
            tokens.append(logits[rows[-1]].argmax(-1).numpy())
    found = {"pixel_values": np.concatenate(pixels)} if pixels else {}
    return found | {
        "ids": np.concatenate([talk.ids for talk in talks]),
        "lengths": np.array([len(talk.ids) for talk in talks]),
        "rows": np.concatenate(rows),
        "counts": np.array([len(one) for one in rows]),
        "tokens": np.concatenate(tokens),
    }


def _talk(row: dict, num_images: int, tokenizer: Tokenizer, config: ModelConfig) -> Talk:
    talk = Conversation(template(config.conv_mode))
    start_end = num_images > 0 and config.mm_use_im_start_end
    asked: list[int] = []
    answers: list[int] = []
    for number, turn in enumerate(row["conversations"]):
        text = turn["value"].replace(IMAGE.name, "").strip()
        if number % 2 == 0:
            talk.ask(text, 0 if number else num_images)
            asked = tokenizer.encode(talk.segments(start_end))
            continue
        talk.answer(text)
        ids = tokenizer.encode(talk.segments(start_end))
        differs = (place for place, (one, other) in enumerate(zip(asked, ids, strict=False)) if one != other)
        answers += range(next(differs, len(asked)), len(ids))
    return Talk(ids, answers)
