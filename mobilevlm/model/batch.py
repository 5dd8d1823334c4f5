"""Answers several independent questions with the PyTorch model in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import StoppingCriteriaList

from ..images.tiles import grid_of
from ..text.prompt import StopRule
from .answer import StopAtKeyword, as_tensor, check_prompt, prompt_ids, template_of
from .model import MobileVLM
from .splice import splice

Asked = tuple[str, np.ndarray | None]


@torch.no_grad()
def answer_batch(
    model: MobileVLM, asked: Sequence[Asked], *, conv_mode: str | None = None, max_new_tokens: int = 512
) -> list[str]:
    """Answer independent questions greedily.

    Shorter prompts are padded on the left and masked: an answer is that of its question alone, up to rounding.

    Args:
        model: a loaded model.
        asked: what the user says, taken literally, and an image from `image.read_pixels` or None.
        conv_mode: the conversation template; None for the model's own.
        max_new_tokens: upper bound on the length of each answer.

    Raises:
        UserError: a prompt is longer than the context, or there is an image and the model takes none.
    """
    rows = []
    for text, pixels in asked:
        grids = [] if pixels is None else [grid_of(pixels)]
        ids = prompt_ids(model, text, len(grids), conv_mode, grids)
        check_prompt(model, ids)
        if pixels is None:
            rows.append(model.model.embed_tokens(ids)[0])
        else:
            blocks = model.encode_images(as_tensor([pixels], model))
            rows.append(splice(ids, blocks, model.model.embed_tokens).inputs_embeds[0])
    longest = max(map(len, rows))
    padded = torch.stack([torch.nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    mask = torch.stack([torch.arange(longest, device=model.device) >= longest - len(row) for row in rows]).long()
    rule = StopRule(model.tokenizer, template_of(model, conv_mode))
    output = model.generate(
        inputs_embeds=padded,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        stopping_criteria=StoppingCriteriaList([StopAtKeyword(rule, 0)]),
    )
    return [rule.finish(model.tokenizer.decode(_until_end(ids.tolist(), rule))) for ids in output]


def _until_end(ids: list[int], rule: StopRule) -> list[int]:
    """Ids up to the end of the answer, without the padding up to the longest one."""
    return next((ids[:end] for end in range(1, len(ids)) if rule.stops(ids[:end])), ids)
