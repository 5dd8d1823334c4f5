"""Opening checkpoints: where towers are found, what is refused, and that every refusal names what is wrong."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.checkpoint import check_tensors, open_checkpoint
from mobilevlm.checkpoint.tower import TOWER_PREFIX
from mobilevlm.errors import UserError
from mobilevlm.model.model import expected_shapes
from mobilevlm.presets import PRESETS
from tests.conftest import GOLDEN, build_here, load_golden


def change_config(directory, **changes):
    path = directory / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def change_weights(directory, change):
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def changed_tower(directory):
    """Make the tower directory's weights differ from the checkpoint's own, so that a mix-up shows."""
    path = directory.parent / "vision_tower" / "pytorch_model.bin"
    tower = torch.load(path, weights_only=True)
    torch.save({name: value + 0.25 for name, value in tower.items()}, path)


@pytest.mark.parametrize("projector, from_directory", [("ldpnet", True), ("ldpnetv2", False)])
def test_v2_keeps_its_own_tower_and_v1_reloads_it(projector, from_directory, tmp_path):
    name = {"ldpnet": "v1_ldpnet_112", "ldpnetv2": "v2_ldpnetv2_336"}[projector]
    shutil.copytree(GOLDEN / name, tmp_path / "model")
    directory = tmp_path / "model" / "ckpt_safetensors"
    changed_tower(directory)
    key = TOWER_PREFIX + "vision_model.encoder.layers.0.mlp.fc1.weight"
    own = load_file(directory / "model.safetensors")[key]
    moved = (open_checkpoint(directory).tensors[key] - own).abs().max().item()
    assert moved == pytest.approx(0.25 if from_directory else 0.0, abs=1e-6)


@pytest.mark.parametrize("place", ["cwd", "inside", "beside", "parent"])
def test_a_relative_tower_is_found(place, checkpoint_copy, tmp_path, monkeypatch):
    tower = checkpoint_copy.parent / "vision_tower"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    at = {"cwd": elsewhere, "inside": checkpoint_copy, "beside": checkpoint_copy.parent, "parent": tmp_path}[place]
    if at != tower.parent:
        shutil.move(tower, at / "vision_tower")
    assert open_checkpoint(checkpoint_copy).config.vision.image_size == 336


def test_a_missing_tower_says_where_it_was_looked_for(checkpoint_copy):
    shutil.rmtree(checkpoint_copy.parent / "vision_tower")
    with pytest.raises(UserError, match="vision_tower.*is not there. Looked in.*preprocessor_config.json"):
        open_checkpoint(checkpoint_copy)


def write_published(directory, preset, **changes):
    """A published layout of one preset with few, small layers: the tower inside, `mm_vision_tower` a hub id."""
    config = PRESETS[preset]
    directory.mkdir()
    small = dict(num_hidden_layers=1, hidden_size=128, intermediate_size=128, vocab_size=768, num_attention_heads=2)
    raw = config.to_published() | small | dict(num_key_value_heads=2) | changes
    (directory / "config.json").write_text(json.dumps(raw))
    for path in (GOLDEN / "_common" / "tokenizer_small").iterdir():
        shutil.copy(path, directory)
    return raw, config.vision


@pytest.mark.parametrize("preset", ["mobilevlm_v2_1.7b", "mobilevlm_1.7b"])
def test_published_layout_loads_without_network(preset, tmp_path, monkeypatch):
    """The published files hold the whole CLIP-L and name it by hub id: nothing is to be fetched, for V1 neither."""
    from mobilevlm.checkpoint.config import ModelConfig
    from mobilevlm.checkpoint.tensors import random_tensors

    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("the hub was asked"))
    raw, vision = write_published(tmp_path / "published", preset)
    shapes = expected_shapes(ModelConfig.from_published(raw, vision))
    save_file({k: v.half() for k, v in random_tensors(shapes).items()}, tmp_path / "published" / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path / "published")
    assert checkpoint.config.vision == vision and vision.image_size == 336
    check_tensors(checkpoint.tensors, shapes, "published")
    assert len([name for name in checkpoint.tensors if name.startswith(TOWER_PREFIX)]) == 24 * 16 + 7


def test_a_truly_missing_tower_names_file_and_place(tmp_path, monkeypatch):
    """A checkpoint without tower weights has to ask the hub; without network the message says what to put where."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    raw, _ = write_published(tmp_path / "published", "mobilevlm_1.7b")
    save_file({"model.norm.weight": torch.ones(128)}, tmp_path / "published" / "model.safetensors")
    with pytest.raises(UserError, match=r"openai/clip-vit-large-patch14-336 is not on this machine.*config.json.*put"):
        open_checkpoint(tmp_path / "published")


def test_hub_ids_that_cannot_be_fetched_say_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"mtgv/MobileVLM_V2-1.7B is not on this machine.*tokenizer"):
        open_checkpoint("mtgv/MobileVLM_V2-1.7B")
    with pytest.raises(UserError, match="does not exist"):
        open_checkpoint("./no/such/dir")


def test_every_differing_weight_is_named(checkpoint_copy):
    def change(tensors):
        del tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.mm_projector.mlp.mlp.0.bias"]
        tensors["model.layers.9.mlp.up_proj.weight"] = torch.zeros(2)
        tensors["model.layers.1.self_attn.q_proj.weight"] = torch.zeros(64, 32)
        tensors["lm_head.weight"] = torch.zeros(767, 64)

    change_weights(checkpoint_copy, change)
    with pytest.raises(UserError) as error:
        MobileVLM.from_pretrained(checkpoint_copy)
    for part in (
        "2 missing: model.layers.0.mlp.up_proj.weight, model.mm_projector.mlp.mlp.0.bias",
        "1 unexpected: model.layers.9.mlp.up_proj.weight",
        "lm_head.weight is (767, 64), needs (768, 64)",
        "model.layers.1.self_attn.q_proj.weight is (64, 32), needs (64, 64)",
    ):
        assert part in str(error.value)


def test_stale_buffers_are_ignored(checkpoint_copy):
    def change(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)
        tensors[TOWER_PREFIX + "vision_model.embeddings.position_ids"] = torch.zeros(1, 577)

    change_weights(checkpoint_copy, change)
    MobileVLM.from_pretrained(checkpoint_copy)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"mm_projector_type": "resampler"}, "mm_projector_type 'resampler'.*ldpnetv2"),
        ({"mm_projector_type": "mlpx_gelu"}, "mm_projector_type 'mlpx_gelu'"),
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"vision_tower_type": "siglip"}, "vision_tower_type 'siglip'.*'clip'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope scaling 'linear'"),
        ({"mm_hidden_size": 48}, "mm_hidden_size is 48.*hidden size 32"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"num_hidden_layers": ...}, "lacks num_hidden_layers"),
        ({"hidden_size": "64"}, "hidden_size '64'; int is needed"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps '1e-6'; float is needed"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings 'false'; bool is needed"),
        ({"num_attention_heads": 0}, "num_attention_heads 0; 1 to"),
        ({"max_position_embeddings": 10**12}, "max_position_embeddings 1000000000000; 1 to"),
        ({"mm_projector_type": 5}, "mm_projector_type 5; str is needed"),
        ({"mm_vision_tower": ["a"]}, "mm_vision_tower .'a'."),
        ({"rope_scaling": "linear"}, "rope parameters 'linear'"),
        ({"mm_vision_select_layer": -9}, "mm_vision_select_layer is -9.*3 layers"),
    ],
)
def test_configurations_that_cannot_be_honoured(changes, message, checkpoint_copy):
    change_config(checkpoint_copy, **changes)
    with pytest.raises(UserError, match=message):
        open_checkpoint(checkpoint_copy)


def test_absent_keys_mean_what_they_mean_to_the_original(checkpoint_copy):
    """No padding without `image_aspect_ratio`, a linear projector without a type, features without the class token."""
    change_config(checkpoint_copy, image_aspect_ratio=..., mm_vision_select_feature=..., num_key_value_heads=...)
    config = open_checkpoint(checkpoint_copy).config
    assert (config.image_aspect_ratio, config.mm_vision_select_feature) == (None, "patch")
    assert config.num_key_value_heads == config.num_attention_heads == 4
    change_config(checkpoint_copy, image_aspect_ratio=None, mm_projector_type=...)
    config = open_checkpoint(checkpoint_copy).config
    assert (config.image_aspect_ratio, config.mm_projector_type) == (None, "linear")


@pytest.mark.parametrize(
    "file, changes, message",
    [
        ("config.json", {"patch_size": 0}, "patch_size 0; 1 to"),
        ("config.json", {"hidden_size": "32"}, "hidden_size '32'; int is needed"),
        ("preprocessor_config.json", {"image_mean": [1, 2]}, "image_mean .1, 2.; three numbers"),
        ("preprocessor_config.json", {"size": "336"}, "shortest_edge '336'; int"),
    ],
)
def test_towers_that_cannot_be_honoured(file, changes, message, checkpoint_copy):
    path = checkpoint_copy.parent / "vision_tower" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        open_checkpoint(checkpoint_copy)


def test_a_base_is_for_loras(checkpoint_copy):
    with pytest.raises(UserError, match="is no LoRA.*takes no base"):
        open_checkpoint(checkpoint_copy, base=checkpoint_copy)


def test_weights_that_are_no_floats_are_refused(checkpoint_copy, tmp_path):
    change_weights(checkpoint_copy, lambda tensors: tensors.update({"lm_head.weight": torch.zeros(768, 64).char()}))
    with pytest.raises(UserError, match="type torch.int8"):
        build_here("--model", checkpoint_copy, out=tmp_path / "out")


def test_a_token_nobody_says_cannot_be_damaged(checkpoint_copy, tmp_path):
    """The table is checked row by row: verification's one question does not touch them all."""
    change_weights(checkpoint_copy, lambda tensors: tensors["model.embed_tokens.weight"][229].fill_(1e6))
    with pytest.raises(UserError, match=r"embed_tokens.weight holds 1e\+06.*float16 ends at 65504.*decoder=fp32"):
        build_here("--model", checkpoint_copy, out=tmp_path / "out", precision="fp16")
    change_weights(checkpoint_copy, lambda tensors: tensors["model.embed_tokens.weight"][229].fill_(float("nan")))
    with pytest.raises(UserError, match="embed_tokens.weight holds nan"):
        build_here("--model", checkpoint_copy, out=tmp_path / "out")


def test_stale_configuration_keys_are_ignored(checkpoint_copy):
    """The published 3B files carry lit-gpt's `n_head: 16` beside 32 attention heads."""
    before = open_checkpoint(checkpoint_copy).config
    change_config(checkpoint_copy, n_head=2, n_embd=1, n_layer=99, norm_eps=1.0, rope_base=1, padded_vocab_size=1)
    assert open_checkpoint(checkpoint_copy).config == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
@pytest.mark.parametrize("kind", ["ckpt_bin", "ckpt_safetensors"])
def test_damaged_weight_files(damage, kind, tmp_path):
    shutil.copytree(GOLDEN / "v2_ldpnetv2_336", tmp_path / "model")
    directory = tmp_path / "model" / kind
    path = next(path for path in directory.iterdir() if path.suffix in (".bin", ".safetensors"))
    if damage == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "empty":
        os.truncate(path, 0)
    elif damage == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1")
    else:
        path.unlink()
    with pytest.raises(
        UserError, match="cannot be read|is a git-lfs pointer|no plain weights|holds no weights"
    ) as error:
        open_checkpoint(directory)
    assert str(directory) in str(error.value)


def test_another_models_tokenizer_is_refused(checkpoint_copy, tmp_path):
    from mobilevlm.export.split.random_checkpoint import write_random_tokenizer

    write_random_tokenizer(checkpoint_copy, 32000)
    with pytest.raises(UserError, match="has 32000 tokens.*768 embedding rows"):
        open_checkpoint(checkpoint_copy)
    (checkpoint_copy / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="tokenizer.model"):
        open_checkpoint(checkpoint_copy)
    (checkpoint_copy / "tokenizer.model").unlink()
    with pytest.raises(UserError, match="tokenizer.model"):
        open_checkpoint(checkpoint_copy)


def test_control_tokens_without_rows_get_the_mean_of_the_others(checkpoint_copy):
    """`mm_use_im_start_end` on a checkpoint whose embedding was never grown; ids in the original's order."""
    change_config(checkpoint_copy, mm_use_im_start_end=True, mm_use_im_patch_token=...)  # absent means True
    model = MobileVLM.from_pretrained(checkpoint_copy)
    ids = [model.tokenizer.token_to_id(name) for name in ("<im_patch>", "<im_start>", "<im_end>")]
    assert ids == [768, 769, 770] and model.config.vocab_size == 771
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        assert weight.shape[0] == 771
        torch.testing.assert_close(weight[770], weight[:768].mean(0))


def test_text_only_llama_loads_and_generates(tmp_path):
    """MobileLLaMA alone, against transformers' own LLaMA on the same files."""
    from transformers import LlamaForCausalLM

    directory = GOLDEN / "lora_v1" / "base"
    ids = torch.tensor([[1, 50, 60, 70]])
    with torch.no_grad():
        ours = MobileVLM.from_pretrained(directory)
        theirs = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32)
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-5, rtol=0)
        options = dict(max_new_tokens=8, do_sample=False)
        assert ours.generate(ids, **options).tolist() == theirs.generate(ids, **options).tolist()
    assert isinstance(ours.chat("Hello", max_new_tokens=4), str)
    with pytest.raises(UserError, match="text-only"):
        ours.chat("Hello", np.zeros(1))


def test_presets_have_the_published_sizes():
    """Parameter counts worked out from the published files' sizes (2 bytes a parameter)."""
    counts = {
        "mobilevlm_1.7b": 1_686_742_016,
        "mobilevlm_v2_1.7b": 1_674_121_216,
        "mobilevlm_v2_3b": 3_014_273_536,
        "mobilevlm_3b": 3_033_981_696,
        "mobilevlm_v2_7b": 7_062_943_744,
        "llava_1.5_7b": 7_063_427_072
        - 2 * 64 * 4096,  # as transformers has it, without the rows that pad its vocabulary
        "vila_1.5_3b": 2_701_560_320 + 18_364_416 + 412_987_248,  # Sheared-LLaMA, projector, SigLIP without its head
        "smolvlm_256m": 256_484_928,
        "smolvlm_500m": 507_482_304,
        "smolvlm2_2.2b": 2_246_784_880,
        "mobilellama_1.4b": 1_364_297_728,
        "mobilellama_2.7b": 2_701_560_320,
    }
    assert {*counts, "mobilevlm_v2_demo"} == set(PRESETS)
    for name, count in counts.items():
        assert sum(int(np.prod(shape)) for shape in expected_shapes(PRESETS[name]).values()) == count, name


def test_golden_shapes_are_the_published_names():
    shapes = json.loads((GOLDEN / "state_dict_shapes.json").read_text())
    for name, published in shapes.items():
        ours = expected_shapes(open_checkpoint(load_golden(name).checkpoint).config)
        assert {key: list(shape) for key, shape in ours.items()} == published
