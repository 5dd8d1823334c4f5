"""The mimetic start: attention of untrained patches stays near their own place, which the usual start has not."""

import torch
from transformers import CLIPVisionModel

from mobilevlm.model.configuration import clip_config
from mobilevlm.presets import PRESETS
from mobilevlm.train.tower_start import sine_positions, start_mimetic


def mean_distance(tower: CLIPVisionModel) -> float:
    """How far, in patches, the first block of a tower looks from each patch, in the mean."""
    tower.set_attn_implementation("eager")
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, tower.config.image_size, tower.config.image_size)
    with torch.no_grad():
        attention = tower(pixels, output_attentions=True).attentions[0][:, :, 1:, 1:]
    grid = tower.config.image_size // tower.config.patch_size
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid)).float()
    attention = attention / attention.sum(-1, keepdim=True)
    return (attention * torch.cdist(places, places)).sum(-1).mean().item()


def test_patches_look_around_themselves():
    torch.manual_seed(0)
    vision = PRESETS["mobilevlm_v2_demo"].vision
    tower = CLIPVisionModel(clip_config(vision))
    usual = mean_distance(tower)
    start_mimetic(tower, vision)
    assert mean_distance(tower) < 0.6 * usual


def test_positions_tell_rows_and_columns_apart():
    """Each is its own; neighbours are more alike than distant ones, alike in both directions."""
    positions = sine_positions(6, 64).reshape(6, 6, 64)
    flat = positions.reshape(36, 64)
    distances = torch.cdist(flat, flat)
    assert (distances + 9 * torch.eye(36)).min() > 0.1
    assert torch.allclose((positions[2, 3] - positions[2, 4]).norm(), (positions[2, 3] - positions[3, 3]).norm())
    assert (positions[2, 2] - positions[2, 3]).norm() < (positions[2, 2] - positions[2, 5]).norm()
