"""One question to the PyTorch model, and the original project's quick-start call.

from mobilevlm.inference import inference_once
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from ..errors import UserError
from ..image import ImageSpec, as_list, load_image, preprocess
from ..text.prompt import Conversation, StopRule, template
from .projectors import num_image_tokens

if TYPE_CHECKING:
    from .model import MobileVLM


class StopAtKeyword(StoppingCriteria):
    """The template's stop rule inside transformers' generate; `prompt_length` ids of each row are not new."""

    def __init__(self, rule: StopRule, prompt_length: int):
        self.rule, self.prompt_length = rule, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Which rows of (B, T) ids have ended: (B,) bool."""
        done = [self.rule.stops(ids[self.prompt_length :].tolist()) for ids in input_ids]
        return torch.tensor(done, device=input_ids.device)


def prompt_ids(model: MobileVLM, prompt: str, num_images: int, conv_mode: str) -> torch.Tensor:
    """The prompt of a one-question conversation: (1, T) int64, -200 where an image goes."""
    conversation = Conversation(template(conv_mode))
    conversation.ask(prompt, num_images)
    segments = conversation.segments(start_end=model.config.model_config.mm_use_im_start_end)
    return torch.tensor([model.tokenizer.encode(segments)], device=model.device)


def check_prompt(model: MobileVLM, input_ids: torch.Tensor, num_images: int) -> None:
    """Refuse what the model cannot take.

    Raises:
        UserError: an image for a model without vision, or a prompt longer than the context.
    """
    config = model.config.model_config
    if num_images and config.vision is None:
        raise UserError("this is a text-only model: it takes no image")
    length = input_ids.shape[1] + num_images * (num_image_tokens(config) - 1 if num_images else 0)
    limit = config.max_position_embeddings
    if length > limit:
        raise UserError(f"the prompt has {length} tokens, the context holds {limit}: {length - limit} too many")


def answer(
    model: MobileVLM,
    prompt: str,
    image: Any = None,
    *,
    conv_mode: str = "v1",
    temperature: float = 0.0,
    top_p: float | None = None,
    num_beams: int = 1,
    max_new_tokens: int = 512,
) -> str:
    """Answer one question.

    Args:
        model: a loaded model.
        prompt: what the user says, without template; taken literally.
        image: a path, bytes or PIL image, a list of those, or None.
        conv_mode: the conversation template.
        temperature: 0 is greedy (or plain beam search).
        top_p: nucleus sampling.
        num_beams: beam search width.
        max_new_tokens: upper bound on the answer's length.

    Raises:
        UserError: an image for a model without vision, an unreadable image, or a prompt longer than the context.
    """
    images = as_list(image)
    _check_options(temperature, top_p, num_beams, max_new_tokens)
    input_ids = prompt_ids(model, prompt, len(images), conv_mode)
    check_prompt(model, input_ids, len(images))
    spec = ImageSpec.of(model.config.model_config) if images else None
    pixels = [torch.from_numpy(preprocess(load_image(item), spec)) for item in images]
    rule = StopRule(model.tokenizer, template(conv_mode))
    new_from = 0 if images else input_ids.shape[1]
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature > 0 else {}
    output = model.generate(
        input_ids,
        images=torch.cat(pixels).to(model.device, model.dtype) if pixels else None,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        stopping_criteria=StoppingCriteriaList([StopAtKeyword(rule, new_from)]),
        **({"do_sample": False} | sampling),
    )
    return rule.finish(model.tokenizer.decode(output[0, new_from:].tolist()))


def _check_options(temperature: float, top_p: float | None, num_beams: int, max_new_tokens: int) -> None:
    ranges = {
        "temperature": (temperature, 0 <= temperature < math.inf, "0 or more"),
        "top_p": (top_p, top_p is None or 0 < top_p <= 1, "above 0 and at most 1"),
        "num_beams": (num_beams, num_beams >= 1, "1 or more"),
        "max_new_tokens": (max_new_tokens, max_new_tokens >= 1, "1 or more"),
    }
    for name, (value, good, allowed) in ranges.items():
        if not good:
            raise UserError(f"{name} is {value}; it must be {allowed}")
