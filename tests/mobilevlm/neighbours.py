"""Small checkpoints of other families with random weights, written by transformers itself where it has the family."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.conftest import GOLDEN

TOKENIZER = GOLDEN / "_common" / "tokenizer_small"  # 768 pieces
PIECES = 768
IMAGE_ID, PAD_ID, VOCABULARY = 768, 769, 832
LLAMA = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
)
TOWER = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, patch_size=14)
CLIP_CONFIG = CLIPVisionConfig(**TOWER, image_size=56, projection_dim=32)
# 5 patches a side, an odd number as the published 27; heads of 8.
SIGLIP_CONFIG = SiglipVisionConfig(**TOWER, image_size=70)
CLIP_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": 56, "width": 56},
    "size": {"shortest_edge": 56},
    "do_center_crop": True,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "rescale_factor": 0.00392156862745098,
}
SIGLIP_PROCESSOR = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 70, "width": 70},
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "rescale_factor": 0.00392156862745098,
}
# As published with llava-hf/llava-1.5-7b-hf.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """A model whose weights are large enough that a difference shows, its norms and biases not those of the start."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            scale = 1.0 if "embed_tokens" in name else scale
            parameter.copy_(scale * torch.randn_like(parameter) + (parameter.ndim == 1))
    return model.eval()


def write_json(path: Path, values: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def copy_tokenizer(directory: Path, with_image: bool = False) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for path in TOKENIZER.iterdir():
        shutil.copyfile(path, directory / path.name)
    if with_image:
        write_json(directory / "added_tokens.json", {"<image>": IMAGE_ID, "<pad>": PAD_ID})


def llava_hf(directory: Path, vision=CLIP_CONFIG, **changes) -> LlavaForConditionalGeneration:
    """transformers' layout, saved by transformers; returns its model."""
    changes = {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"} | changes
    text = LlamaConfig(**LLAMA, vocab_size=VOCABULARY)
    patches = (vision.image_size // vision.patch_size) ** 2
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_ID, image_seq_length=patches, **changes
    )
    model = shaken(LlavaForConditionalGeneration(config))
    model.save_pretrained(directory)
    copy_tokenizer(directory, with_image=True)
    is_clip = vision.model_type == "clip_vision_model"
    write_json(directory / "preprocessor_config.json", CLIP_PROCESSOR if is_clip else SIGLIP_PROCESSOR)
    return model


def renamed(directory: Path, rename) -> None:
    """Gives the tensors of a single-file checkpoint other names."""
    from safetensors.torch import load_file

    path = directory / "model.safetensors"
    save_file({rename(name): value for name, value in load_file(path).items()}, path, {"format": "pt"})


def llava_original(directory: Path, model: LlavaForConditionalGeneration) -> None:
    """The authors' layout of the same model, without the rows that pad its vocabulary, and its tower beside it."""
    names = {"model.language_model.": "model.", "model.multi_modal_projector.linear_": "model.mm_projector.linear_"}
    tensors = {}
    for name, value in model.state_dict().items():
        if "vision_tower" in name:
            continue
        for old, new in names.items():
            name = name.replace(old, new)
        name = name.replace("linear_1", "0").replace("linear_2", "2")
        tensors[name] = (value[:PIECES] if len(value) == VOCABULARY else value).clone()
    config = LLAMA | {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "vocab_size": PIECES,
        "hidden_act": "silu",
        "image_aspect_ratio": "pad",
        "image_grid_pinpoints": None,
        "mm_hidden_size": TOWER["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_resampler_type": None,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "openai/clip-tiny",
        "rope_scaling": None,
        "torch_dtype": "float16",
        "unfreeze_mm_vision_tower": False,
    }
    write_json(directory / "config.json", config)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    copy_tokenizer(directory)
    tower = directory / "openai" / "clip-tiny"
    model.model.vision_tower.save_pretrained(tower)
    write_json(tower / "preprocessor_config.json", CLIP_PROCESSOR)


def parts(vision, extra: dict) -> tuple[LlamaForCausalLM, torch.nn.Module]:
    """A decoder and a tower of transformers, to be put together by hand."""
    tower = (CLIPVisionModel if vision.model_type == "clip_vision_model" else SiglipVisionModel)(vision)
    return shaken(LlamaForCausalLM(LlamaConfig(**LLAMA | extra, vocab_size=PIECES))), shaken(tower)


def vila(directory: Path) -> tuple[LlamaForCausalLM, SiglipVisionModel, dict[str, torch.Tensor]]:
    """VILA1.5's three folders; returns decoder, tower and the projector's tensors."""
    decoder, tower = parts(SIGLIP_CONFIG, {})
    wide = 4 * TOWER["hidden_size"]
    shapes = {"layers.1.weight": (wide,), "layers.1.bias": (wide,)}
    shapes |= {"layers.2.weight": (64, wide), "layers.2.bias": (64,)}
    shapes |= {"layers.4.weight": (64, 64), "layers.4.bias": (64,)}
    torch.manual_seed(3)
    projector = {name: torch.randn(shape) * 0.1 + (name == "layers.1.weight") for name, shape in shapes.items()}
    decoder.save_pretrained(directory / "llm")
    copy_tokenizer(directory / "llm")
    tower.save_pretrained(directory / "vision_tower")
    write_json(directory / "vision_tower" / "preprocessor_config.json", SIGLIP_PROCESSOR)
    (directory / "mm_projector").mkdir()
    save_file(projector, directory / "mm_projector" / "model.safetensors", {"format": "pt"})
    described = {"mm_projector_type": "mlp_downsample", "model_type": "v2l_projector"}
    write_json(directory / "mm_projector" / "config.json", described)
    config = {
        "architectures": ["LlavaLlamaModel"],
        "model_type": "llava_llama",
        "hidden_size": 64,
        "image_aspect_ratio": "resize",
        "interpolate_mode": "linear",
        "llm_cfg": decoder.config.to_dict(),
        "mm_hidden_size": TOWER["hidden_size"],
        "mm_projector_cfg": described,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "cls_patch",
        "mm_vision_select_layer": -2,
        "model_dtype": "torch.bfloat16",
        "num_video_frames": 8,
        "s2": False,
        "vision_resolution": -1,
        "vision_tower_cfg": tower.config.to_dict(),
    }
    write_json(directory / "config.json", config)
    return decoder, tower, projector


def tinyllava(directory: Path) -> tuple[LlamaForCausalLM, SiglipVisionModel, dict[str, torch.Tensor]]:
    """TinyLLaVA's layout, its tower beside it; returns decoder, tower and the projector's tensors."""
    decoder, tower = parts(SIGLIP_CONFIG, {})
    torch.manual_seed(5)
    projector = {"0.weight": torch.randn(64, TOWER["hidden_size"]) * 0.2, "0.bias": torch.randn(64) * 0.5}
    projector |= {"2.weight": torch.randn(64, 64) * 0.1, "2.bias": torch.randn(64) * 0.5}
    config = LLAMA | {
        "architectures": ["TinyLlavaLlamaForCausalLM"],
        "model_type": "tiny_llava_llama",
        "vocab_size": PIECES,
        "image_aspect_ratio": "pad",
        "mm_hidden_size": TOWER["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": "tower",
        "torch_dtype": "float16",
    }
    write_json(directory / "config.json", config)
    tensors = dict(decoder.state_dict()) | {f"model.mm_projector.{name}": one for name, one in projector.items()}
    save_file({name: one.contiguous() for name, one in tensors.items()}, directory / "model.safetensors")
    copy_tokenizer(directory)
    tower.save_pretrained(directory / "tower")
    write_json(directory / "tower" / "preprocessor_config.json", SIGLIP_PROCESSOR)
    return decoder, tower, projector
