"""Splicing with labels and masks, as training does it, against the original's batches."""

import numpy as np
import pytest
import torch

from mobilevlm import MobileVLM
from mobilevlm.model.splice import splice
from mobilevlm.text.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from tests.conftest import GOLDEN, load_golden


@pytest.fixture(scope="module")
def model():
    return MobileVLM.from_pretrained(load_golden("v1_ldpnet_112").checkpoint)


@pytest.mark.parametrize("template", ["plain", "v1"])
def test_training_batches_match_the_original(model, template):
    """A batch with and without an image, of different lengths: embeddings, labels, mask and loss."""
    batch = np.load(GOLDEN / "v1_ldpnet_112" / "train_batch" / f"{template}.npz")
    ids, labels, mask, images = (
        torch.from_numpy(batch[name]) for name in ("input_ids", "labels", "attention_mask", "images")
    )
    with torch.no_grad():
        spliced = splice(ids, model.encode_images(images), model.model.embed_tokens, mask, labels)
        loss = model(ids, attention_mask=mask, labels=labels, images=images).loss.item()
    assert np.array_equal(spliced.labels, batch["spliced_labels"])
    assert np.array_equal(spliced.attention_mask, batch["spliced_attention_mask"])
    np.testing.assert_allclose(spliced.inputs_embeds, batch["spliced_embeds"], atol=1e-4)
    assert loss == pytest.approx(float(batch["loss"]), rel=1e-4)


def test_a_sample_without_an_image_uses_up_a_block():
    """Text-only rows of a batch carry a dummy image: the next sample must not get it."""
    table = torch.nn.Embedding(8, 4)
    blocks = [torch.full((2, 4), 1.0), torch.full((2, 4), 2.0)]
    ids = torch.tensor([[1, 2, 3], [1, IMAGE_TOKEN_INDEX, 3]])
    spliced = splice(ids, blocks, table, torch.ones_like(ids), torch.tensor([[1, 2, 3], [1, IMAGE_TOKEN_INDEX, 3]]))
    assert spliced.inputs_embeds.shape == (2, 4, 4)
    assert torch.equal(spliced.inputs_embeds[1, 1:3], blocks[1])
    assert spliced.attention_mask.tolist() == [[True, True, True, False], [True] * 4]
    assert spliced.labels.tolist() == [[1, 2, 3, IGNORE_INDEX], [1, IGNORE_INDEX, IGNORE_INDEX, 3]]


def test_every_batch_asks_for_its_embeddings_once():
    """Where weights are divided, every call gathers them from all processes, which have to make as many.

    With a call for each piece of text, FSDP broke down where one process had a picture and another had none.
    """
    calls = []
    table = torch.nn.Embedding(8, 4)
    table.register_forward_hook(lambda *call: calls.append(call))
    place = IMAGE_TOKEN_INDEX
    for number, ids in enumerate([[[1, 2, 3, 4]], [[place, 1, place, 3], [place] * 4], [[1, 2, 3, place]]]):
        splice(torch.tensor(ids), [torch.zeros(2, 4)] * max(1, sum(row.count(place) for row in ids)), table)
        assert len(calls) == number + 1


def test_more_or_fewer_images_than_places_is_said():
    table = torch.nn.Embedding(8, 4)
    ids = torch.tensor([[1, IMAGE_TOKEN_INDEX, 3]])
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"1 image tokens, but {count} images"):
            splice(ids, [torch.zeros(2, 4)] * count, table)
