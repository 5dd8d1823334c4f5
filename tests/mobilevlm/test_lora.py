"""LoRA directories against the original's own merge."""

import json
import shutil

import numpy as np
import pytest
import torch

from mobilevlm import MobileVLM
from mobilevlm.errors import UserError
from tests.conftest import GOLDEN

LORA = GOLDEN / "lora_v1"


@pytest.fixture
def lora(tmp_path):
    return shutil.copytree(LORA, tmp_path / "lora_v1") / "lora"


@pytest.mark.parametrize("form", ["merged", "lora"])
def test_merged_logits_match_the_original(form):
    golden = np.load(LORA / "golden.npz")
    base = LORA / "base" if form == "lora" else None
    model = MobileVLM.from_pretrained(LORA / form, base=base)
    with torch.no_grad():
        ids, images = torch.from_numpy(golden["input_ids"]), torch.from_numpy(golden["pixel_values"])
        logits = model(ids, images=images).logits
    np.testing.assert_allclose(logits, golden["logits"], atol=2e-4)


def test_every_merged_weight_is_the_originals():
    ours = MobileVLM.from_pretrained(LORA / "lora", base=LORA / "base").state_dict()
    theirs = MobileVLM.from_pretrained(LORA / "merged").state_dict()
    assert set(ours) == set(theirs)
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight), name


def test_the_base_is_found_where_the_adapter_says(lora):
    adapter = lora / "adapter_config.json"
    adapter.write_text(json.dumps(json.loads(adapter.read_text()) | {"base_model_name_or_path": "base"}))
    MobileVLM.from_pretrained(lora)  # beside the adapter
    adapter.write_text(json.dumps(json.loads(adapter.read_text()) | {"base_model_name_or_path": "gone"}))
    MobileVLM.from_pretrained(lora)  # the name is dead, but a `base` lies beside
    (lora.parent / "base").rename(lora.parent / "elsewhere")
    MobileVLM.from_pretrained(lora, base=lora.parent / "elsewhere")
    with pytest.raises(UserError, match="LoRA on 'gone'.*--base DIR"):
        MobileVLM.from_pretrained(lora)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"use_dora": True}, "no plain LoRA .use_dora."),
        ({"rank_pattern": {"q_proj": 4}}, "no plain LoRA .rank_pattern."),
        ({"bias": "all"}, "no plain LoRA"),
        ({"r": 0}, "r 0 and lora_alpha 16"),
        ({"lora_alpha": None}, "lora_alpha None"),
    ],
)
def test_adapter_settings_that_mean_something_else(lora, changes, message):
    adapter = lora / "adapter_config.json"
    adapter.write_text(json.dumps(json.loads(adapter.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        MobileVLM.from_pretrained(lora, base=lora.parent / "base")


def test_adapters_that_cannot_be_merged(lora):
    adapter = torch.load(lora / "adapter_model.bin", weights_only=True)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    torch.save({k: v for k, v in adapter.items() if k != f"{prefix}.lora_B.weight"}, lora / "adapter_model.bin")
    with pytest.raises(UserError, match="only one of two LoRA factors for model.layers.0.self_attn.q_proj.weight"):
        MobileVLM.from_pretrained(lora, base=lora.parent / "base")
    misshapen = adapter | {f"{prefix}.lora_A.weight": torch.zeros(8, 32)}
    torch.save(misshapen, lora / "adapter_model.bin")
    with pytest.raises(UserError, match="another model's LoRA"):
        MobileVLM.from_pretrained(lora, base=lora.parent / "base")
    other = {k.replace("layers.0", "layers.7"): v for k, v in adapter.items()}
    torch.save(other, lora / "adapter_model.bin")
    with pytest.raises(UserError, match="its base lacks: model.layers.7"):
        MobileVLM.from_pretrained(lora, base=lora.parent / "base")
    (lora / "adapter_model.bin").unlink()
    with pytest.raises(UserError, match="lacks its adapter weights"):
        MobileVLM.from_pretrained(lora, base=lora.parent / "base")
