"""Contrastive pre-training against transformers' CLIP, alone and over two processes, and the tower it leaves behind."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import image_text_contrastive_loss

from mobilevlm.checkpoint.config import VisionConfig
from mobilevlm.model.configuration import clip_config
from mobilevlm.train.clip import ImageTextModel, contrastive_loss
from mobilevlm.train.regions import RegionVocabulary
from mobilevlm.train.tower_files import save_tower
from tests.conftest import ROOT

VISION = VisionConfig(64, 128, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8)
EOS = 2  # LLaMA's


def a_batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(3, 50, (4, 9))
    lengths = [9, 5, 7, 3]
    for row, length in zip(ids, lengths, strict=True):
        row[length - 1] = EOS
        row[length:] = 0
    mask = (torch.arange(9) < torch.tensor(lengths)[:, None]).long()
    return {"pixel_values": torch.randn(4, 3, 32, 32), "input_ids": ids, "attention_mask": mask}


def a_model(regions: RegionVocabulary | None = None, weight: float = 0.0) -> ImageTextModel:
    torch.manual_seed(0)
    return ImageTextModel(VISION, 50, 12, -2, regions, weight).eval()


def test_the_loss_is_that_of_transformers_clip():
    """With its weights; the end of a text is found although LLaMA's EOS id is one that transformers misreads."""
    ours, batch = a_model(), a_batch()
    # The same texts with an EOS that transformers takes by its id, not by "the highest id of the text".
    text = CLIPTextConfig(**(ours.text_model.config.to_dict() | {"vocab_size": 51, "eos_token_id": 50}))
    parts = {"text_config": text.to_dict(), "vision_config": clip_config(VISION).to_dict()}
    theirs = CLIPModel(CLIPConfig(**parts, projection_dim=64)).eval()
    weights = {name: value for name, value in ours.state_dict().items()}
    table = "text_model.embeddings.token_embedding.weight"
    weights[table] = torch.cat([weights[table], weights[table][EOS : EOS + 1]])
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected and not [name for name in missing if "position_ids" not in name]
    ids = batch["input_ids"].masked_fill(batch["input_ids"] == EOS, 50)
    with torch.no_grad():
        loss = ours(**batch)["loss"]
        expected = theirs(**(batch | {"input_ids": ids}), return_loss=True).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_contrastive_loss_matches_transformers_on_embeddings():
    torch.manual_seed(0)
    image, text, scale = torch.randn(6, 8), torch.randn(6, 8), torch.tensor(7.0)
    unit = torch.nn.functional.normalize
    expected = image_text_contrastive_loss(scale * unit(text, dim=1) @ unit(image, dim=1).T)
    assert contrastive_loss(image, text, scale).item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_on_regions_is_added_and_reads_the_projectors_layer():
    """Against the head's own pieces, applied by hand to the hidden state before the last block."""
    vocabulary = RegionVocabulary({"kind": ["cat", "dog"], "centre": ["centre"]})
    model, batch = a_model(vocabulary, 3.0), a_batch()
    targets = torch.randint(0, 2, (4, 2, 16))
    outputs = model(**batch, regions=targets)
    features = model.vision_model(batch["pixel_values"], output_hidden_states=True).hidden_states[-2][:, 1:]
    scores = model.region_head.names(model.region_head.norm(features))
    weights = torch.where(targets > 0, 1.0, 0.2)
    picked = [
        -part.log_softmax(-1).gather(-1, targets[:, i, :, None])[..., 0] * weights[:, i]
        for i, part in enumerate((scores[..., :3], scores[..., 3:]))
    ]
    expected = sum(part.mean() for part in picked)
    assert outputs["region_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    plain = a_model()
    plain.load_state_dict(model.state_dict(), strict=False)
    contrastive = plain(**batch)["loss"].item()
    assert outputs["loss"].item() == pytest.approx(contrastive + 3 * expected.item(), rel=1e-5)


TWO_PROCESSES = """
import json, sys, torch
import torch.distributed as dist
from tests.train.test_clip import a_batch, a_model
dist.init_process_group("gloo")
rank = dist.get_rank()
def learn():  # a function, so that nothing holds the group at the end and its threads end with it
    model = torch.nn.parallel.DistributedDataParallel(a_model())
    part = {name: value[2 * rank : 2 * rank + 2] for name, value in a_batch().items()}
    loss = model(**part)["loss"]
    loss.backward()
    learnt = [(name, p.grad) for name, p in model.module.named_parameters() if p.grad is not None]
    return loss.item(), {name: grad.flatten()[:50].tolist() for name, grad in learnt}
loss, gradients = learn()
if rank == 0:
    json.dump({"loss": loss, "gradients": gradients}, open(sys.argv[1], "w"))
dist.destroy_process_group()
"""


def test_two_processes_see_each_others_captions(tmp_path):
    """Loss and gradients of a batch halved over two processes are those of the whole batch in one."""
    script, found = tmp_path / "two.py", tmp_path / "found.json"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{TWO_PROCESSES}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, found]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    there = json.loads(found.read_text())
    model = a_model()
    loss = model(**a_batch())["loss"]
    loss.backward()
    assert there["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            here = parameter.grad.flatten()[:50]
            difference = (torch.tensor(there["gradients"][name]) - here).abs().max()
            assert difference <= 1e-4 * max(1e-3, here.abs().max().item()), name


def test_the_saved_tower_is_read_by_transformers(tmp_path):
    model = a_model()
    save_tower(model.vision_model, VISION, tmp_path)
    theirs = CLIPVisionModel.from_pretrained(tmp_path).eval()
    pixels = a_batch()["pixel_values"]
    with torch.no_grad():
        expected = model.vision_model(pixels).last_hidden_state
        assert torch.equal(theirs(pixels).last_hidden_state, expected)
