"""The PyTorch model: CLIP, a projector and LLaMA under the published parameter names. All else is checked against it.

It is a transformers model, so `generate`, Trainer, PEFT and accelerate work on it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from torch import nn
from transformers import BitsAndBytesConfig, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from ..checkpoint.checkpoint import TOKENIZER_FILES, TOWER_FILES, Checkpoint, check_tensors, open_checkpoint
from ..checkpoint.config import ModelConfig, VisionConfig
from ..checkpoint.tensors import Tensors
from ..errors import UserError
from ..text.prompt import IMAGE_TOKEN_INDEX
from .answer import answer
from .first_calls import settle
from .projectors import projector_class
from .splice import splice

settle()


class MobileVLMConfig(LlamaConfig):
    """transformers' view of a `ModelConfig`, which it carries as `mobilevlm`."""

    model_type = "mobilevlm"

    @classmethod
    def of(cls, config: ModelConfig) -> MobileVLMConfig:
        """Wrap a `ModelConfig`."""
        names = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads vocab_size"
        names += " head_dim rms_norm_eps max_position_embeddings tie_word_embeddings"
        names += " bos_token_id eos_token_id pad_token_id"
        rope = {"rope_type": "default", "rope_theta": config.rope_theta}
        values = {name: getattr(config, name) for name in names.split()}
        return cls(**values, rope_parameters=rope, mobilevlm=config.to_dict())

    @property
    def model_config(self) -> ModelConfig:
        """The `ModelConfig` this was made of."""
        return ModelConfig.from_dict(self.mobilevlm)


class VisionTower(nn.Module):
    """CLIP up to the hidden state the projector reads."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.select_layer = config.mm_vision_select_layer
        self.keep_cls = config.mm_vision_select_feature == "cls_patch"
        # The doubled name and `vision_model` are the published ones.
        self.vision_tower = nn.ModuleDict({"vision_model": CLIPVisionModel(clip_config(config.vision))})

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to patch features (B, P, mm_hidden_size) in the dtype of `pixel_values`."""
        clip = self.vision_tower["vision_model"]
        weights = next(clip.parameters())
        hidden = clip(pixel_values.to(weights.dtype), output_hidden_states=True).hidden_states[self.select_layer]
        return (hidden if self.keep_cls else hidden[:, 1:]).to(pixel_values.dtype)

    def train(self, mode: bool = True) -> VisionTower:
        """Stay as it is: the tower is never trained within a MobileVLM."""
        return super().train(False)


def clip_config(vision: VisionConfig) -> CLIPVisionConfig:
    """transformers' configuration of a tower."""
    return CLIPVisionConfig(
        hidden_size=vision.hidden_size,
        intermediate_size=vision.intermediate_size,
        num_hidden_layers=vision.num_hidden_layers,
        num_attention_heads=vision.num_attention_heads,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        layer_norm_eps=vision.layer_norm_eps,
        hidden_act=vision.hidden_act,
        projection_dim=min(768, vision.hidden_size),
    )


class MobileVLM(LlamaForCausalLM):
    """MobileVLM V1 and V2, and MobileLLaMA alone when the configuration has no vision tower."""

    config_class = MobileVLMConfig

    def __init__(self, config: MobileVLMConfig):
        super().__init__(config)
        self.loss_type = "ForCausalLM"  # transformers goes by the class's name, which is not one of its own
        spec = config.model_config
        if spec.vision:
            self.model.vision_tower = VisionTower(spec)
            self.model.mm_projector = projector_class(spec)(spec)
            self.post_init()

    @classmethod
    def from_pretrained(
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
            self = cls._load_quantised(config, checkpoint, load_4bit)
        else:
            self = empty_model(checkpoint.config)
            fill(self, checkpoint.tensors, as_dtype(dtype), torch.device(device))
        self.checkpoint, self.tokenizer = checkpoint, checkpoint.tokenizer()
        return self.eval()

    @classmethod
    def _load_quantised(cls, config: MobileVLMConfig, checkpoint: Checkpoint, four_bit: bool) -> MobileVLM:
        if not torch.cuda.is_available():
            bits = 4 if four_bit else 8
            raise UserError(
                f"load_{bits}bit needs a CUDA GPU and bitsandbytes; this machine has no GPU. For a quantised model on "
                "this machine build an engine: python export/build_engines.py --model DIR --target host"
            )
        quantised = (
            BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_compute_dtype=torch.float16,
                bnb_4bit_use_double_quant=True,
                bnb_4bit_quant_type="nf4",
                llm_int8_skip_modules=["lm_head", "vision_tower", "mm_projector"],
            )
            if four_bit
            else BitsAndBytesConfig(
                load_in_8bit=True, llm_int8_skip_modules=["lm_head", "vision_tower", "mm_projector"]
            )
        )
        return super().from_pretrained(
            None,
            config=config,
            state_dict=dict(checkpoint.tensors),
            quantization_config=quantised,
            device_map="auto",
            dtype=torch.float16,
        )

    def save_pretrained(self, directory: str | Path, **kwargs: Any) -> None:
        """Write the published layout: `config.json`, safetensors, the tokenizer's files.

        Keyword arguments are those of transformers' `save_pretrained`.
        """
        directory = Path(directory)
        super().save_pretrained(directory, **kwargs)
        config = self.config.model_config.to_published()
        config["torch_dtype"] = str(self.dtype).removeprefix("torch.")
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        checkpoint = getattr(self, "checkpoint", None)  # a model that was never loaded has no tokenizer
        if checkpoint:
            _copy(TOKENIZER_FILES, checkpoint.tokenizer_dir, directory)
        tower = config.get("mm_vision_tower")
        if checkpoint and checkpoint.tower_dir and not Path(tower).is_absolute():
            # Named relatively, it has to come along; without weights where those inside the checkpoint count.
            names = TOWER_FILES[:2] if self.config.model_config.uses_checkpoint_tower else TOWER_FILES
            _copy(names, checkpoint.tower_dir, directory / tower)

    def encode_images(self, images: torch.Tensor | Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Image embeddings, one block per image token.

        Args:
            images: (B, 3, H, W): a block (N, D) each. A list of (3, H, W) or (n, 3, H, W), or (B, n, 3, H, W): a
                block (n*N, D) for each item.
        """
        encode = lambda pixel_values: self.model.mm_projector(self.model.vision_tower(pixel_values))  # noqa: E731
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
    ):
        """LLaMA's forward; where `input_ids` hold -200 the embeddings of `images` are put in (see `splice`)."""
        if (
            images is not None
            and inputs_embeds is None
            and hasattr(self.model, "vision_tower")
            and input_ids.shape[1] > 1
        ):
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
    def generate(self, inputs: torch.Tensor | None = None, images: Any = None, **kwargs: Any):
        """transformers' generate, with images.

        Args:
            inputs: (1, T) int64 prompt, -200 where an image goes.
            images: as in `encode_images`, or None.
            **kwargs: transformers' own.

        Returns:
            With images, only the new ids (the prompt was embeddings); without, transformers' own result.
        """
        inputs = kwargs.pop("input_ids", None) if inputs is None else inputs
        if images is None:
            return super().generate(inputs, **kwargs)
        kwargs.pop("attention_mask", None)  # of one unpadded prompt: all ones, and shorter than its embeddings
        spliced = splice(inputs, self.encode_images(images), self.model.embed_tokens)
        mask = torch.ones(spliced.inputs_embeds.shape[:2], dtype=torch.long, device=inputs.device)
        return super().generate(inputs_embeds=spliced.inputs_embeds, attention_mask=mask, **kwargs)

    def chat(self, prompt: str, image: Any = None, **options: Any) -> str:
        """Answer one question; see `mobilevlm.answer.answer` for the options."""
        return answer(self, prompt, image, **options)


def _copy(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).is_file() and source != target.resolve():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A torch dtype by any of its names: `fp16`, `float16`, `torch.float16`.

    Raises:
        UserError: it is no floating-point type.
    """
    short = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    name = str(dtype).removeprefix("torch.")
    found = getattr(torch, short.get(name, name), None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UserError(f"dtype is {dtype!r}; it can be fp32, fp16 or bf16")
    return found


def empty_model(config: ModelConfig) -> MobileVLM:
    """The model with its parameters on the meta device: no memory, only names and shapes (buffers are real)."""
    with init_empty_weights(include_buffers=False):
        return MobileVLM(MobileVLMConfig.of(config)).eval()


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every published tensor of a model."""
    shapes = {name: tuple(value.shape) for name, value in empty_model(config).state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    return shapes


def fill(model: MobileVLM, tensors: Tensors, dtype: torch.dtype, device: torch.device) -> None:
    """Give an empty model its weights, one tensor at a time, so that they never exist twice."""
    for name, tensor in tensors.items():
        # A copy even where dtype and device agree: a memory-mapped file must not change under a live model.
        value = tensor.detach().to(device=device, dtype=dtype, copy=True)
        set_module_tensor_to_device(model, name, device, value=value, dtype=dtype)
    if model.config.tie_word_embeddings:
        model.tie_weights()
    model.to(device)
