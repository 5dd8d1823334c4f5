"""Whatever a published layout can say, the ONNX bundle says as PyTorch does: every option that changes a graph."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mobilevlm import MobileVLM
from mobilevlm.checkpoint.config import ModelConfig, VisionConfig
from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.model.answer import answer, prompt_ids
from mobilevlm.model.model import expected_shapes
from mobilevlm.runtime import Session
from tests.conftest import GOLDEN, ROOT, build_here

VISION = VisionConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=112, patch_size=14
)
MODEL = ModelConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    vocab_size=768,
    mm_hidden_size=32,
    mm_projector_type="ldpnetv2",
    mm_vision_tower="tower",
    mm_use_im_patch_token=False,
    vision=VISION,
)
CASES = {
    "linear": {"mm_projector_type": "linear"},
    "mlp": {"mm_projector_type": "mlp2x_gelu"},
    "ldpnet on an odd grid": {"mm_projector_type": "ldpnet", "vision": replace(VISION, image_size=98)},
    "ldpnetv2 on a grid below 12": {"vision": replace(VISION, image_size=98)},
    "ldpnetv2 on a grid above 12": {"vision": replace(VISION, image_size=182)},
    "size no multiple of the patch": {"vision": replace(VISION, image_size=120)},
    "start and end tokens": {"mm_use_im_start_end": True, "mm_use_im_patch_token": True, "vocab_size": 771},
    "class token": {"mm_projector_type": "linear", "mm_vision_select_feature": "cls_patch"},
    "last layer": {"mm_vision_select_layer": -1},
    "first layer": {"mm_vision_select_layer": 1},
    "gelu tower": {"vision": replace(VISION, hidden_act="gelu", layer_norm_eps=1e-3)},
    "centre crop": {"image_aspect_ratio": "square"},
    "other mean": {"vision": replace(VISION, image_mean=(0.5, 0.4, 0.3), image_std=(0.5, 0.25, 0.5))},
    "grouped heads": {"num_key_value_heads": 2},
    "heads of 80": {"hidden_size": 320, "num_attention_heads": 4},
    "heads wider than the model": {"head_dim": 32},
    "tied embeddings": {"tie_word_embeddings": True},
    "other rope and epsilon": {"rope_theta": 500.0, "rms_norm_eps": 1e-3},
    "padded vocabulary": {"vocab_size": 832},
    "text only": {"vision": None, "mm_vision_tower": None},
}


def write_checkpoint(config: ModelConfig, directory) -> None:
    """The published layout, with the tower beside it as the goldens have theirs."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config.to_published()))
    for path in (GOLDEN / "_common" / "tokenizer_small").iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    tensors = dict(random_tensors(expected_shapes(config), seed=3))
    save_file(tensors, directory / "model.safetensors")
    if config.vision is None:
        return
    tower = directory.parent / "tower"
    tower.mkdir()
    vision = config.vision
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    names += ("layer_norm_eps", "hidden_act")
    (tower / "config.json").write_text(json.dumps({name: getattr(vision, name) for name in names}))
    preprocessor = {"image_mean": vision.image_mean, "image_std": vision.image_std, "crop_size": vision.image_size}
    (tower / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    prefix = "model.vision_tower.vision_tower."
    save_file(
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)},
        tower / "model.safetensors",
    )


@pytest.mark.parametrize("name", CASES)
def test_the_bundle_answers_as_pytorch(name, tmp_path):
    config = replace(MODEL, **({"head_dim": 0} | CASES[name]))
    write_checkpoint(config, tmp_path / "model")
    build_here("--model", tmp_path / "model", out=tmp_path / "bundle")
    model = MobileVLM.from_pretrained(tmp_path / "model")
    if config.vision:
        assert model.config.model_config == config
    photo = Image.open(ROOT / "assets" / "table.jpg")
    shown = [[], [photo], [photo, photo.crop((0, 100, 300, 400))]]
    with Session(tmp_path / "bundle") as session:
        for images in shown if config.vision else shown[:1]:
            expected = answer(model, "What is on the table?", images, max_new_tokens=10)
            reply = session.chat("What is on the table?", images, max_new_tokens=10)
            assert "".join(reply) == expected
            ids = torch.tensor(reply._prompt.input_ids)
            assert (ids == -200).sum() == len(images)
            if config.mm_use_im_start_end and images:
                assert ids.tolist().count(769) == ids.tolist().count(770) == len(images)


def test_both_end_at_a_stop_string(tmp_path):
    """A model that says `a###…` in a template whose turns end in `###`: the answer is `a`, and generation is over."""
    write_checkpoint(MODEL, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["lm_head.weight"][761] = weights["lm_head.weight"].abs().max() * 3 * weights["model.norm.weight"].sign()
    save_file(weights, tmp_path / "model" / "model.safetensors")
    build_here("--model", tmp_path / "model", out=tmp_path / "bundle")
    model = MobileVLM.from_pretrained(tmp_path / "model")
    finishes = set()
    with Session(tmp_path / "bundle") as session:
        for question in ("What?", "Where is it?", "Tell me more.", "Why not?", "Count them."):
            reply = session.chat(question, conv_mode="default", max_new_tokens=12)
            assert "".join(reply) == answer(model, question, conv_mode="default", max_new_tokens=12)
            assert "###" not in reply.text
            finishes.add(reply.finish)
    assert "stop" in finishes


def test_both_end_at_eos(tmp_path):
    """EOS made as likely as the runner-up of some early step: generation ends there, in PyTorch and in the bundle."""
    write_checkpoint(MODEL, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["lm_head.weight"][2] *= 4
    save_file(weights, tmp_path / "model" / "model.safetensors")
    build_here("--model", tmp_path / "model", out=tmp_path / "bundle")
    model = MobileVLM.from_pretrained(tmp_path / "model")
    ended = 0
    with Session(tmp_path / "bundle") as session:
        for question in ("What?", "Where is it?", "Tell me more.", "Why not?"):
            expected = model.generate(prompt_ids(model, question, 0, "v1"), max_new_tokens=60, do_sample=False)
            reply = session.chat(question, max_new_tokens=60)
            "".join(reply)
            new = expected[0, prompt_ids(model, question, 0, "v1").shape[1] :].tolist()
            assert reply.tokens == new
            assert (reply.finish == "stop") == (new[-1] == 2)
            ended += new[-1] == 2
    assert ended
