"""The order of training rows, against the original's."""

import json

import pytest
import torch

from mobilevlm.train.sampler import EpochSampler, grouped_indices, length_grouped
from tests.conftest import GOLDEN

GOLDENS = json.loads((GOLDEN / "_common" / "length_grouped_sampler.json").read_text())


@pytest.mark.parametrize("number", range(len(GOLDENS)))
def test_the_order_is_the_originals(number):
    golden = GOLDENS[number]
    lengths, batch, batches = golden["lengths"], golden["batch_size"], golden["world_size"]
    torch.manual_seed(golden["torch_manual_seed"])
    if golden["group_by_modality"]:
        got = grouped_indices(lengths, batch, batches)
    else:
        got = [index for piece in length_grouped(range(len(lengths)), lengths, batch, batches, None) for index in piece]
    assert got == golden["indices"]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("batches", [1, 3])
def test_one_modality_is_grouped_by_length(sign, batches):
    """At data without text, or without pictures, the original crashes."""
    lengths = [sign * (1 + index % 17) for index in range(50)]
    got = grouped_indices(lengths, 2, batches)
    assert sorted(got) == list(range(50))
    first = [abs(lengths[index]) for index in got[: 2 * batches]]
    assert max(first) - min(first) <= 17


@pytest.mark.parametrize("count", [1, 2, 5])
def test_very_little_data_is_not_lost(count):
    lengths = [(-1) ** index * (index + 1) for index in range(count)]
    assert sorted(grouped_indices(lengths, 4, 2)) == list(range(count))


def test_a_length_of_zero_is_refused():
    with pytest.raises(ValueError, match="row 1"):
        grouped_indices([3, 0], 1, 1)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_order_depends_on_seed_and_epoch_alone(grouped):
    lengths = [(-1) ** index * (1 + index % 7) for index in range(40)]

    def order(seed, epoch):
        sampler = EpochSampler(lengths, 2, 2, seed, grouped)
        sampler.set_epoch(epoch)
        return list(sampler)

    before = order(1, 2)
    torch.manual_seed(99)
    assert order(1, 2) == before
    assert sorted(before) == list(range(40))
    assert order(1, 3) != before != order(2, 2)


def test_an_epoch_is_filled_up_to_whole_global_batches():
    order = list(EpochSampler([1] * 5, 2, 2, seed=0, grouped=False))
    assert len(order) == 8
    assert order[5:] == order[:3]
