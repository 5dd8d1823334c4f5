"""Published checkpoints of other families: their small files are read, planned or refused, their tensors fit.

`published_configs.json` has the facts of the hub pages, without keys that say nothing of the model. Those of SmolVLM
and Idefics3 are from memory and from copies elsewhere; their presets have the published numbers of parameters.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import Checkpoint, open_checkpoint
from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.checkpoint.families import Layout, read_layout
from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.checkpoint.tower import read_configuration
from mobilevlm.engines.targets import TARGETS
from mobilevlm.errors import UserError
from mobilevlm.export.backends.backend import backend_of
from mobilevlm.export.plan import BuildRequest, make_plan
from mobilevlm.export.split.random_checkpoint import write_random_tokenizer
from mobilevlm.image import ImageSpec, preprocess
from mobilevlm.model.answer import prompt_ids
from mobilevlm.model.model import expected_shapes
from mobilevlm.model.projectors import num_image_tokens
from mobilevlm.presets import PRESETS
from tests.mobilevlm import neighbours
from tests.mobilevlm.test_families import PHOTO, QUESTION, hf_llava

PUBLISHED = json.loads((Path(__file__).parent / "published_configs.json").read_text())


def read(name: str, directory: Path) -> tuple[Layout, ModelConfig]:
    entry = PUBLISHED["read"][name]
    for file, values in entry.get("files", {}).items():
        neighbours.write_json(directory / file, values)
    layout = read_layout(entry["config"], directory)
    return layout, read_configuration(layout.config, directory, layout.vision)[0]


@pytest.mark.parametrize("name", PUBLISHED["read"])
def test_a_published_checkpoint_is_read_and_planned(name, tmp_path, monkeypatch):
    _, config = read(name, tmp_path)
    entry = PUBLISHED["read"][name]
    assert (config.hidden_size, config.num_hidden_layers) == (entry["hidden_size"], entry["layers"])
    assert (num_image_tokens(config), config.conv_mode) == (entry["tokens"], entry["conv"])
    assert (config.image_aspect_ratio, config.tower.image_size) == (entry["aspect"], entry["image"])
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    write_random_tokenizer(tmp_path, config.vocab_size)
    checkpoint = Checkpoint("published", config, random_tensors(expected_shapes(config)), tmp_path)
    target = TARGETS["host"]
    monkeypatch.setattr("mobilevlm.export.plan.require_memory", lambda *_: None)  # this machine's is not the question
    monkeypatch.setattr("mobilevlm.export.plan._check_disk", lambda *_: None)
    precisions = {"vision": "int8", "decoder": "int4"}
    plan = make_plan(BuildRequest(checkpoint, [], target, backend_of(target), precisions, out=str(tmp_path / "out")))
    assert plan.stages.max_context == config.max_position_embeddings


@pytest.mark.parametrize("name", PUBLISHED["refused"])
def test_a_checkpoint_of_another_kind_is_refused_in_a_sentence(name, tmp_path):
    entry = PUBLISHED["refused"][name]
    neighbours.write_json(tmp_path / "config.json", entry["config"])
    with pytest.raises(UserError, match=entry["says"]) as error:
        open_checkpoint(tmp_path)
    assert "\n" not in str(error.value)


def test_a_gguf_file_is_refused(tmp_path):
    path = tmp_path / "ggml-model-q4_k.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(UserError, match="is a GGUF file.*float16 checkpoint"):
        open_checkpoint(path)
    with pytest.raises(UserError, match="holds GGUF files.*float16 checkpoint"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"vision_feature_layer": [-2, -5]}, "vision_feature_layer .-2, -5.; one layer"),
        ({"projector_hidden_act": "relu"}, "projector_hidden_act 'relu'; only 'gelu'"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias False; only True"),
        ({"vision_config": {"model_type": "pixtral"}}, "model_type is 'pixtral'; clip_vision_model and siglip"),
        ({"vision_config": {"model_type": "siglip_vision_model"}}, "drops the first patch of a SigLIP"),
    ],
)
def test_options_of_transformers_layout_that_are_not_implemented(changes, says, tmp_path):
    config = PUBLISHED["read"]["llava-hf/llava-1.5-7b-hf"]["config"] | changes
    neighbours.write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match=says):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"vision_resolution": 448}, "vision_resolution 448, the tower 384"),
        ({"mm_vision_select_feature": "patch"}, "drops the first patch of a SigLIP"),
        ({"mm_projector_cfg": {"mm_projector_type": "mlp_downsample_3x3_fix"}}, "mlp_downsample_3x3_fix"),
        ({"llm_cfg": "./llm"}, "lacks llm/config.json"),
    ],
)
def test_options_of_vila_that_are_not_implemented(changes, says, tmp_path):
    config = PUBLISHED["read"]["Efficient-Large-Model/VILA1.5-3b"]["config"] | changes
    neighbours.write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match=says):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("changes, says", [({"resample": 2}, "resample 2"), ({"do_normalize": False}, "do_normalize")])
def test_preprocessing_that_is_not_implemented(changes, says, tmp_path):
    neighbours.llava_hf(tmp_path)
    neighbours.write_json(tmp_path / "preprocessor_config.json", neighbours.CLIP_PROCESSOR | changes)
    with pytest.raises(UserError, match=says):
        open_checkpoint(tmp_path)


def shapes(model: torch.nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + name: tuple(value.shape) for name, value in model.state_dict().items()}


def renamed(found: dict[str, tuple[int, ...]], layout: Layout) -> dict[str, tuple[int, ...]]:
    pairs = ((layout.rename(name), shape) for name, shape in found.items())
    return {name: shape for name, shape in pairs if name is not None}


@pytest.mark.parametrize("names", ["transformers 5", "transformers 4"])
@pytest.mark.parametrize("size", ["7b", "13b"])
def test_tensors_of_llava_in_transformers_layout(size, names, tmp_path):
    """All names and shapes of the real sizes, as transformers has them (on no device), are those that are needed."""
    layout, config = read(f"llava-hf/llava-1.5-{size}-hf", tmp_path)
    neighbours.write_json(tmp_path / "config.json", PUBLISHED["read"][f"llava-hf/llava-1.5-{size}-hf"]["config"])
    with torch.device("meta"):
        found = shapes(LlavaForConditionalGeneration(AutoConfig.from_pretrained(tmp_path)))
    if names == "transformers 4":
        old = {"lm_head.": "language_model.lm_head.", "model.language_model.": "language_model.model."}
        old |= {"model.vision_tower.": "vision_tower.vision_model.", "model.multi_modal": "multi_modal"}
        for new, name in old.items():
            found = {name + key.removeprefix(new) if key.startswith(new) else key: s for key, s in found.items()}
    assert renamed(found, layout) == expected_shapes(config)


def test_tensors_of_vila(tmp_path):
    layout, config = read("Efficient-Large-Model/VILA1.5-3b", tmp_path)
    files = PUBLISHED["read"]["Efficient-Large-Model/VILA1.5-3b"]["files"]
    with torch.device("meta"):
        found = shapes(LlamaForCausalLM(LlamaConfig(**files["llm/config.json"])), "llm.")
        found |= shapes(SiglipVisionModel(SiglipVisionConfig(**files["vision_tower/config.json"])), "vision_tower.")
    projector = {"1.weight": (4608,), "1.bias": (4608,), "2.weight": (2560, 4608), "2.bias": (2560,)}
    projector |= {"4.weight": (2560, 2560), "4.bias": (2560,)}
    found |= {f"mm_projector.layers.{name}": shape for name, shape in projector.items()}
    assert renamed(found, layout) == expected_shapes(config)


@pytest.mark.parametrize(
    "preset, name",
    [
        ("llava_1.5_7b", "liuhaotian/llava-v1.5-7b"),
        ("vila_1.5_3b", "Efficient-Large-Model/VILA1.5-3b"),
        ("smolvlm_256m", "HuggingFaceTB/SmolVLM-256M-Instruct"),
        ("smolvlm_500m", "HuggingFaceTB/SmolVLM2-500M-Video-Instruct"),
        ("smolvlm2_2.2b", "HuggingFaceTB/SmolVLM2-2.2B-Instruct"),
    ],
)
def test_a_preset_is_the_published_one(preset, name, tmp_path):
    published = read(name, tmp_path)[1]
    assert replace(PRESETS[preset], torch_dtype=published.torch_dtype) == published


@pytest.mark.parametrize("names", ["transformers 5", "transformers 4"])
def test_a_lora_on_llava_merges_as_peft_merges_it(names, tmp_path):
    """On decoder, tower and projector; the merged checkpoint is float16, as the original's merge is."""
    base = neighbours.llava_hf(tmp_path / "base")
    targets = ["q_proj", "v_proj", "down_proj", "fc1", "linear_2"]
    tuned = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
    torch.manual_seed(11)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    tuned.save_pretrained(tmp_path / "lora")
    if names == "transformers 4":  # whose modules were nested the other way round
        path = tmp_path / "lora" / "adapter_model.safetensors"
        old = {"model.model.language_model.": "model.language_model.model.", "model.model.": "model."}
        tensors = load_file(path)
        for new, name in old.items():
            tensors = {key.replace(f"base_model.{new}", f"base_model.{name}"): value for key, value in tensors.items()}
        assert any(key.startswith("base_model.model.language_model.model.layers.0") for key in tensors)
        save_file(tensors, path)
    merged = tuned.merge_and_unload().eval()
    layout = read_layout(json.loads((tmp_path / "base" / "config.json").read_text()), tmp_path / "base")
    model = MobileVLM.from_pretrained(tmp_path / "lora", base=tmp_path / "base")
    wanted, own = {layout.rename(name): value for name, value in merged.state_dict().items()}, model.state_dict()
    assert set(own) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(own[name], value.half().float(), rtol=2**-10, atol=1e-6)  # one rounding of float16
    merged.load_state_dict({name: own[layout.rename(name)] for name in merged.state_dict()})
    ids = prompt_ids(model, QUESTION, 1, None)
    pixels = torch.from_numpy(preprocess(PHOTO, ImageSpec.of(model.config.model_config)))
    logits, tokens = hf_llava(merged, ids[0].tolist(), pixels, 16)
    with torch.no_grad():
        assert (model(ids, images=pixels).logits - logits).abs().max() < 2e-4
    assert model.generate(ids, images=pixels, max_new_tokens=10, do_sample=False)[0].tolist() == tokens
