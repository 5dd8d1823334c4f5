"""The PyTorch model: CLIP, a projector and LLaMA under the published parameter names, the reference for all exports.

It is a transformers model, so `generate`, Trainer, PEFT and accelerate work on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..checkpoint.checkpoint import Checkpoint, check_tensors, open_checkpoint
from ..checkpoint.config import ModelConfig
from ..errors import UserError
from ..text.prompt import IMAGE_TOKEN_INDEX
from ..text.tokenizer import Tokenizer
from .answer import answer
from .bitsandbytes import bitsandbytes_config, check_gpu
from .configuration import MobileVLMConfig
from .first_calls import settle
from .layout import write_config, write_description
from .projectors import projector_of
from .splice import splice
from .vision_tower import VisionTower
from .weights import as_dtype, fill

settle()


class MobileVLM(LlamaForCausalLM):
    """MobileVLM V1 and V2, and MobileLLaMA alone when the configuration has no vision tower.

    Attributes:
        config: as transformers has it; `config.model_config` is the `ModelConfig`.
        checkpoint: what the model was read from; absent in one that was made from a configuration alone.
        tokenizer: the checkpoint's, with its control tokens; absent likewise.
    """

    config_class = MobileVLMConfig
    config: MobileVLMConfig
    checkpoint: Checkpoint
    tokenizer: Tokenizer

    def __init__(self, config: MobileVLMConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # transformers goes by the class's name, which is not one of its own
        spec = config.model_config
        if spec.vision:
            self.model.vision_tower = VisionTower(spec)
            self.model.mm_projector = projector_of(spec).module(spec)
            self.post_init()

    @classmethod
    # Not transformers' loader: this one reads the published layout, and none of the other's options apply to it.
    def from_pretrained(  # type: ignore[override]
        cls,
        model: str | Path,
        *,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
        base: str | Path | None = None,
        load_8bit: bool = False,
        load_4bit: bool = False,
    ) -> MobileVLM:
        """Load a checkpoint in the published layout, a LoRA directory (merged onto its base), or a hub id.

        Args:
            model: directory or hub id.
            dtype: a torch dtype, or `fp32`, `fp16`, `bf16`; weights are converted one at a time.
            device: where the weights go.
            base: the model a LoRA directory was trained on, when not where it says.
            load_8bit: quantise with bitsandbytes LLM.int8 (needs a CUDA GPU).
            load_4bit: quantise with bitsandbytes nf4, double quantised, as the original does (needs a CUDA GPU).

        Raises:
            UserError: see `checkpoint.open_checkpoint` and `checkpoint.check_tensors`.
        """
        checkpoint = open_checkpoint(model, base)
        check_tensors(checkpoint.tensors, expected_shapes(checkpoint.config), str(model))
        config = MobileVLMConfig.of(checkpoint.config)
        if load_8bit or load_4bit:
            check_gpu(4 if load_4bit else 8, model, base)
            self = cls._load_quantised(config, checkpoint, 4 if load_4bit else 8)
        else:
            self = empty_model(checkpoint.config)
            fill(self, checkpoint.tensors, as_dtype(dtype), torch.device(device))
        self.checkpoint, self.tokenizer = checkpoint, checkpoint.tokenizer()
        return self.eval()

    @classmethod
    def _load_quantised(cls, config: MobileVLMConfig, checkpoint: Checkpoint, bits: int) -> MobileVLM:
        return super().from_pretrained(
            None,
            config=config,
            state_dict=dict(checkpoint.tensors),
            quantization_config=bitsandbytes_config(bits),
            device_map="auto",
            dtype=torch.float16,
        )

    def save_pretrained(self, save_directory: str | PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write the published layout: `config.json`, safetensors, the tokenizer's files.

        Args:
            save_directory: where to; made if it is not there.
            *args: as transformers' `save_pretrained` takes them.
            **kwargs: likewise, such as `max_shard_size`.
        """
        directory, config = Path(save_directory), self.config.model_config
        # First: where weights are, all that they need is there, also after a kill.
        write_description(directory, config, self.dtype, getattr(self, "checkpoint", None))
        super().save_pretrained(directory, *args, **kwargs)  # with transformers' own `config.json`
        write_config(directory, config, self.dtype)

    def encode_images(self, images: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Run the vision stage: CLIP and the projector.

        Args:
            images: normalised as in `image.preprocess`, (B, 3, H, W); or a list of (3, H, W) or (n, 3, H, W), or
                (B, n, 3, H, W).

        Returns:
            Image embeddings, one block per image token: (N, D) for each image, (n*N, D) for each item of the other
            forms.
        """

        def encode(pixel_values: torch.Tensor) -> torch.Tensor:
            embeds: torch.Tensor = self.model.mm_projector(self.model.vision_tower(pixel_values))
            return embeds

        if isinstance(images, torch.Tensor) and images.ndim == 4:
            return list(encode(images))
        return [encode(image if image.ndim == 4 else image[None]).flatten(0, 1) for image in images]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        images: torch.Tensor | Sequence[torch.Tensor] | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """LLaMA's forward; where `input_ids` hold -200 the embeddings of `images` are put in (see `splice`).

        Args:
            input_ids: (B, T) int64, or None with `inputs_embeds`.
            attention_mask: (B, T), 0 where there is padding.
            labels: (B, T) int64, -100 where there is no loss.
            images: as in `encode_images`; used where `input_ids` holds a prompt, not the last token of one.
            inputs_embeds: (B, S, D), in place of `input_ids` and `images`.
            **kwargs: LLaMA's own.

        Returns:
            Logits (B, S, V), the loss if there are labels, and the kv cache.

        Raises:
            UserError: there are fewer or more images than image tokens.
        """
        has_prompt = input_ids is not None and inputs_embeds is None and input_ids.shape[1] > 1
        if images is not None and input_ids is not None and has_prompt and hasattr(self.model, "vision_tower"):
            embeds = self.encode_images(images)
            spliced = splice(input_ids, embeds, self.model.embed_tokens, attention_mask, labels)
            input_ids, inputs_embeds = None, spliced.inputs_embeds
            attention_mask, labels = spliced.attention_mask, spliced.labels
        if input_ids is not None and (input_ids == IMAGE_TOKEN_INDEX).any():
            raise UserError("the prompt has image tokens, but no images were given")
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *args: Any,
        images: torch.Tensor | Sequence[torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> Any:
        """transformers' generate, with images.

        Args:
            inputs: (1, T) int64 prompt, -200 where an image goes; also by the name `input_ids`.
            *args: transformers' own.
            images: as in `encode_images`, or None.
            **kwargs: transformers' own.

        Returns:
            With images, only the new ids (the prompt was embeddings); without, transformers' own result.

        Raises:
            UserError: there are fewer or more images than image tokens, or no prompt for them.
        """
        inputs = kwargs.pop("input_ids", None) if inputs is None else inputs
        if images is not None:
            if inputs is None:
                raise UserError("generate has images, but no prompt for them: give it input_ids")
            embeds = splice(inputs, self.encode_images(images), self.model.embed_tokens).inputs_embeds
            # Of one unpadded prompt: all ones, and as long as its embeddings.
            kwargs["attention_mask"] = torch.ones(embeds.shape[:2], dtype=torch.long, device=inputs.device)
            inputs, kwargs["inputs_embeds"] = None, embeds
        # transformers declares `self` as a protocol that has an attribute for each kind of model: no model has all.
        return super().generate(inputs, *args, **kwargs)  # type: ignore[misc]

    def chat(self, prompt: str, image: Any = None, **options: Any) -> str:
        """Answer one question.

        Args:
            prompt: what the user says, without template.
            image: a path, bytes or PIL image, a list of those, or None.
            **options: see `mobilevlm.model.answer.answer`.
        """
        return answer(self, prompt, image, **options)


def empty_model(config: ModelConfig) -> MobileVLM:
    """Model with its parameters on the meta device: only names and shapes, no memory (buffers are real)."""
    with init_empty_weights(include_buffers=False):
        return MobileVLM(MobileVLMConfig.of(config)).eval()


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every published tensor of a model, by name."""
    shapes = {name: tuple(value.shape) for name, value in empty_model(config).state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    return shapes
