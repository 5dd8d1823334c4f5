"""Several single questions to the PyTorch model at once, greedily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import StoppingCriteriaList

from ..text.prompt import StopRule, template
from .answer import StopAtKeyword, check_prompt, prompt_ids
from .splice import splice

if TYPE_CHECKING:
    from .model import MobileVLM

Asked = tuple[str, np.ndarray | None]


@torch.no_grad()
def answer_batch(
    model: MobileVLM, asked: Sequence[Asked], *, conv_mode: str = "v1", max_new_tokens: int = 512
) -> list[str]:
    """Greedy answers to questions that have nothing to do with each other.

    Shorter prompts are padded on the left and masked, so an answer is that of its question alone but for rounding.

    Args:
        model: a loaded model.
        asked: what the user says, taken literally, and a picture (1, 3, H, W) float32 from `image.preprocess` or None.
        conv_mode: the conversation template.
        max_new_tokens: longest answer.

    Raises:
        UserError: a prompt is longer than the context, or there is a picture and the model takes none.
    """
    rows = []
    for text, pixels in asked:
        ids = prompt_ids(model, text, int(pixels is not None), conv_mode)
        check_prompt(model, ids, int(pixels is not None))
        if pixels is None:
            rows.append(model.model.embed_tokens(ids)[0])
        else:
            blocks = model.encode_images(torch.from_numpy(pixels).to(model.device, model.dtype))
            rows.append(splice(ids, blocks, model.model.embed_tokens).inputs_embeds[0])
    longest = max(map(len, rows))
    padded = torch.stack([torch.nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    mask = torch.stack([torch.arange(longest, device=model.device) >= longest - len(row) for row in rows]).long()
    rule = StopRule(model.tokenizer, template(conv_mode))
    output = model.generate(
        inputs_embeds=padded,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        stopping_criteria=StoppingCriteriaList([StopAtKeyword(rule, 0)]),
    )
    return [rule.finish(model.tokenizer.decode(_until_end(ids.tolist(), rule))) for ids in output]


def _until_end(ids: list[int], rule: StopRule) -> list[int]:
    """Without the padding that waits for longer answers."""
    return next((ids[:end] for end in range(1, len(ids)) if rule.stops(ids[:end])), ids)
