"""Answers one question with the PyTorch model: prompt, generation, and what of the text is the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from ..errors import UserError
from ..image import ImageSpec, as_list, pixel_values
from ..images.tiles import grid_of, squares_of
from ..text.prompt import Conversation, StopRule, Template, template
from ..text.tokenizer import IMAGE_TOKEN_INDEX, Tokenizer
from ..text.utterances import Grid
from .configuration import MobileVLMConfig
from .projectors import num_image_tokens


class ChatModel(Protocol):
    """Interface of a model that can be asked, see `MobileVLM`."""

    tokenizer: Tokenizer

    @property
    def config(self) -> MobileVLMConfig:
        """Sizes, and how images are preprocessed."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights and of `pixel_values`."""

    def generate(
        self, inputs: torch.Tensor | None = None, *args: Any, images: torch.Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Generate, see `MobileVLM.generate`.

        Args:
            inputs: (1, T) int64 prompt, -200 where an image goes.
            *args: transformers' own.
            images: (B, 3, H, W), one for each -200, or None.
            **kwargs: transformers' own.

        Returns:
            Token ids: (1, new) with images, (1, T + new) without.
        """


class StopAtKeyword(StoppingCriteria):
    """A template's stop rule, for transformers' generate.

    Args:
        rule: of the template.
        prompt_length: number of ids at the start of each sequence that are the prompt's.
    """

    def __init__(self, rule: StopRule, prompt_length: int):
        self.rule, self.prompt_length = rule, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Mask (B,) bool of the sequences in `input_ids` (B, T) that have ended."""
        done = [self.rule.stops(ids[self.prompt_length :].tolist()) for ids in input_ids]
        return torch.tensor(done, device=input_ids.device)


def template_of(model: ChatModel, conv_mode: str | None) -> Template:
    """Conversation template of a name.

    Args:
        model: whose own it is without a name.
        conv_mode: the name, or None.

    Raises:
        UserError: there is no such template.
    """
    return template(conv_mode or model.config.model_config.conv_mode)


def prompt_ids(
    model: ChatModel, prompt: str, num_images: int, conv_mode: str | None, grids: Sequence[Grid] = ()
) -> torch.Tensor:
    """Token ids of a conversation of one question, up to where the answer begins.

    Args:
        model: whose tokenizer and device.
        prompt: what the user says, taken literally.
        num_images: how many images the question is about; they come first.
        conv_mode: name of the conversation template; None for the model's own.
        grids: rows and columns of the images' tiles.

    Returns:
        (1, T) int64 on the model's device, -200 where an image or a tile goes.

    Raises:
        UserError: there is no such template, or the prompt is no UTF-8 text.
    """
    conversation = Conversation(template_of(model, conv_mode))
    conversation.ask(prompt, num_images)
    segments = conversation.segments(model.config.model_config.mm_use_im_start_end, grids)
    return torch.tensor([model.tokenizer.encode(segments)], device=model.device)


def check_prompt(model: ChatModel, input_ids: torch.Tensor) -> None:
    """Refuse a prompt that the model cannot take.

    Args:
        model: whose context length.
        input_ids: (1, T), each image one id.

    Raises:
        UserError: an image for a model without vision, or a prompt longer than the context.
    """
    config, num_images = model.config.model_config, int((input_ids == IMAGE_TOKEN_INDEX).sum())
    if num_images and config.vision is None:
        raise UserError("this is a text-only model: it takes no image")
    length = input_ids.shape[1] + num_images * (num_image_tokens(config) - 1 if num_images else 0)
    limit = config.max_position_embeddings
    if length > limit:
        raise UserError(f"the prompt has {length} tokens, the context holds {limit}: {length - limit} too many")


def answer(
    model: ChatModel,
    prompt: str,
    image: Any = None,
    *,
    conv_mode: str | None = None,
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
        conv_mode: the conversation template; None for the model's own.
        temperature: 0 is greedy (or plain beam search).
        top_p: nucleus sampling.
        num_beams: beam search width.
        max_new_tokens: upper bound on the answer's length.

    Returns:
        The answer, without the template's stop string and without whitespace around it.

    Raises:
        UserError: an image for a model without vision, an unreadable image, or a prompt longer than the context.
    """
    images = as_list(image)
    options = _generation_options(temperature, top_p, num_beams, max_new_tokens)
    pixels = _pixels(model, images)
    input_ids = prompt_ids(model, prompt, len(images), conv_mode, [grid_of(one) for one in pixels])
    check_prompt(model, input_ids)
    rule = StopRule(model.tokenizer, template_of(model, conv_mode))
    new_from = 0 if images else input_ids.shape[1]
    output = model.generate(
        input_ids,
        images=as_tensor(pixels, model) if images else None,
        stopping_criteria=StoppingCriteriaList([StopAtKeyword(rule, new_from)]),
        **options,
    )
    return rule.finish(model.tokenizer.decode(output[0, new_from:].tolist()))


def _pixels(model: ChatModel, images: list[Any]) -> list[np.ndarray]:
    """Preprocessed images; none for a model without vision, which is refused behind this."""
    config = model.config.model_config
    return [pixel_values(item, ImageSpec.of(config)) for item in images] if config.vision else []


def as_tensor(pixels: Sequence[np.ndarray], model: ChatModel) -> torch.Tensor:
    """Squares of all images (B, 3, H, H), on the model's device and in its dtype.

    Args:
        pixels: images as `image.read_pixels` returns them.
        model: that reads them.
    """
    squares = [torch.from_numpy(square) for one in pixels for square in squares_of(one)]
    return torch.cat(squares).to(model.device, model.dtype)


def _generation_options(temperature: float, top_p: float | None, num_beams: int, max_new_tokens: int) -> dict[str, Any]:
    """Arguments of transformers' generate; UserError for a value out of its range."""
    ranges = {
        "temperature": (temperature, 0 <= temperature < math.inf, "0 or more"),
        "top_p": (top_p, top_p is None or 0 < top_p <= 1, "above 0 and at most 1"),
        "num_beams": (num_beams, num_beams >= 1, "1 or more"),
        "max_new_tokens": (max_new_tokens, max_new_tokens >= 1, "1 or more"),
    }
    for name, (value, good, allowed) in ranges.items():
        if not good:
            raise UserError(f"{name} is {value}; it must be {allowed}")
    options = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
    return options | ({"temperature": temperature, "top_p": top_p} if temperature > 0 else {})
