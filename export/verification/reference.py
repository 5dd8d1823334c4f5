"""PyTorch's answer to a sample, with the weights streamed through the model: the reference of every verification.

A model of any size has one on the machine that builds it, because a weight is in memory only while its layer runs.
One pass over prompt and answer gives the logits of prefill and of every decode step, because attention is causal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.engines import stages
from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec
from mobilevlm.model.projectors import num_image_tokens
from mobilevlm.model.splice import splice
from mobilevlm.text.prompt import IMAGE, IMAGE_TOKEN_INDEX

from ..split.streamed_model import layers_of, streamed_model

QUESTION = "What is in the picture?"


@dataclass(frozen=True)
class Sample:
    """Input that the stages are verified on: one synthetic image and one short question.

    Attributes:
        pixel_values: (1, 3, H, H) float32, None for a text-only model.
        input_ids: prompt, -200 where the image goes.
    """

    pixel_values: torch.Tensor | None
    input_ids: list[int]


def make_sample(checkpoint: Checkpoint) -> Sample:
    """Makes a smooth image with noise (fixed seed), of values that an image has, and a question about it."""
    vision = checkpoint.config.vision
    tokenizer = checkpoint.tokenizer()
    if vision is None:
        return Sample(None, tokenizer.encode([QUESTION]))
    generator = np.random.default_rng(0)
    axis = np.linspace(-1.5, 1.5, vision.image_size, dtype=np.float32)
    image = np.stack([np.add.outer(axis, phase * axis) for phase in (-1.0, 0.5, 1.0)])
    image += 0.5 * generator.standard_normal(image.shape, dtype=np.float32)
    spec = ImageSpec.of(checkpoint.config)
    mean, std = (np.array(one, np.float32)[:, None, None] for one in (spec.mean, spec.std))
    image = np.clip(image, -mean / std, (1 - mean) / std)  # SigLIP's end at -1 and 1, and fixed ranges there
    return Sample(torch.from_numpy(image[None]), tokenizer.encode([IMAGE, "\n" + QUESTION]))


def question_rows(rows: int) -> int:
    """Returns how many of a prompt's last tokens run after the others, as a question after an image does."""
    return min(stages.QUESTION_ROWS, rows // 2)


def prompt_rows(checkpoint: Checkpoint) -> int:
    """Returns the tokens of the sample's prompt, those of its image included."""
    ids = make_sample(checkpoint).input_ids
    per_image = num_image_tokens(checkpoint.config) if checkpoint.config.vision else 0
    return len(ids) + ids.count(IMAGE_TOKEN_INDEX) * (per_image - 1)


class Reference:
    """The PyTorch model of a checkpoint in float32, on one sample.

    Args:
        checkpoint: the model.
        sample: the input.
        on_layer: called after each layer that runs.

    Attributes:
        golden: the sample's inputs and PyTorch's outputs so far, by name.
        inputs_embeds: (1, S, D) float32, the prompt with the image in its place.
    """

    def __init__(self, checkpoint: Checkpoint, sample: Sample, on_layer: Callable[[], object]):
        self._model = streamed_model(checkpoint)
        for layer in self.layers():
            layer.register_forward_hook(lambda *_: on_layer() and None)
        self.golden = {"input_ids": np.array(sample.input_ids)}
        with torch.inference_mode():
            self.inputs_embeds = self._embed(sample)

    def layers(self) -> list[torch.nn.Module]:
        """Returns the decoder's layers, and CLIP's."""
        return layers_of(self._model)

    def _embed(self, sample: Sample) -> torch.Tensor:
        ids = torch.tensor([sample.input_ids])
        if sample.pixel_values is None:
            return self._model.model.embed_tokens(ids)
        blocks = self._model.encode_images(sample.pixel_values)
        self._record("pixel_values", sample.pixel_values)
        self._record(stages.IMAGE_EMBEDS, blocks[0][None])
        return splice(ids, blocks, self._model.model.embed_tokens).inputs_embeds

    @torch.inference_mode()
    def follow(self, tokens: list[int], first_rows: int) -> None:
        """Runs the prompt and an answer to it, and records the logits of each of its tokens.

        Args:
            tokens: the answer.
            first_rows: rows of the prompt that stages ran first; their last one's logits are recorded, too.
        """
        answer = self._model.model.embed_tokens(torch.tensor([tokens[:-1]]))
        inputs = torch.cat([self.inputs_embeds, answer], dim=1)
        kept = inputs.shape[1] - first_rows + 1
        logits = self._model(inputs_embeds=inputs, use_cache=False, logits_to_keep=kept).logits[0]
        self._record("answer", torch.tensor(tokens[:-1]))
        self._record("tokens", logits[-len(tokens) :].argmax(-1))
        self._record(stages.FIRST_LOGITS, logits[:1])
        self._record(stages.LOGITS, logits[-len(tokens) :])

    def _record(self, name: str, value: torch.Tensor) -> None:
        if not torch.isfinite(value.float()).all():
            raise UserError(
                f"PyTorch computes {name} with values that are not finite: the checkpoint's weights are damaged, copy "
                "or train it again"
            )
        self.golden[name] = value.numpy()
