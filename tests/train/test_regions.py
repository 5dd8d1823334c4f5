"""What patches are told to show, against pixels that were painted, and the attributes that are refused."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec, preprocess
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.scenes import sample_scene
from mobilevlm.train.masking import RowError
from mobilevlm.train.regions import CENTRE, RegionVocabulary

GRID, EDGE = 12, 144


@pytest.mark.parametrize("aspect", ["pad", "square"])
@pytest.mark.parametrize("size", [(192, 192), (300, 200), (120, 240)])
def test_targets_are_the_patches_that_preprocessing_puts_the_box_on(size, aspect):
    """White boxes are painted on black; the preprocessed pixels say which patches they cover."""
    rng = random.Random(0)
    for _ in range(20):
        left, top = rng.uniform(0.05, 0.6), rng.uniform(0.05, 0.6)
        box = [left, top, left + rng.uniform(0.2, 0.35), top + rng.uniform(0.2, 0.35)]
        picture = Image.new("RGB", size)
        ImageDraw.Draw(picture).rectangle([edge * size[i % 2] for i, edge in enumerate(box)], fill=(255, 255, 255))
        row = {"regions": [{"box": box, "kind": "box"}]}
        vocabulary = RegionVocabulary.of([row], GRID)
        square = max(size) if aspect == "pad" else min(size)
        targets = vocabulary.targets(row, size, square, GRID).reshape(4, GRID, GRID)
        spec = ImageSpec(EDGE, mean=(0, 0, 0), std=(1, 1, 1), aspect_ratio=aspect)
        covered = preprocess(picture, spec)[0, 0].reshape(GRID, EDGE // GRID, GRID, EDGE // GRID).mean((1, 3))
        sure = np.abs(covered - 0.25) > 0.12
        assert ((targets[0].numpy() > 0) == (covered > 0.25))[sure].all()
        if aspect == "square":
            continue  # part of the box may be out of sight
        ys, xs = np.nonzero(covered > 0.5)
        for y, x in targets[1].nonzero().tolist():
            assert abs(y - ys.mean()) <= 1 and abs(x - xs.mean()) <= 1


def test_a_patch_belongs_to_what_covers_most_of_it():
    row = {
        "regions": [{"box": [0, 0, 0.5, 1], "kind": "left"}, {"box": [0.5, 0, 1, 1], "kind": "right", "color": "red"}]
    }
    vocabulary = RegionVocabulary.of([row], 3)
    kind, color, centre, own_row, own_column = (
        vocabulary.targets(row, (60, 60), 60, 3).reshape(5, 3, 3)[list(vocabulary.values).index(name)]
        for name in ("kind", "color", CENTRE, "row", "column")
    )
    names = [0, *vocabulary.values["kind"]]
    assert [names[index] for index in kind[1]] == ["left", "right", "right"]
    assert color[1].tolist() == [0, 1, 1] and centre.tolist() == [[0, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert own_row.tolist() == [[1] * 3, [2] * 3, [3] * 3] and own_column.tolist() == [[1, 2, 3]] * 3


def test_every_scene_tells_what_it_shows():
    for seed in range(60):
        scene, regions = sample_scene(random.Random(seed)), []
        picture = draw_scene(scene, random.Random(seed), EDGE, regions)
        told = [region["kind"] for region in regions]
        assert all(thing.shape in told for thing in scene.things)
        writing = [*scene.texts, *(thing for thing in scene.things if thing.text)]
        assert sorted(kind for kind in told if len(kind) == 1) == sorted("".join(t.text.upper() for t in writing))
        if scene.chart:
            assert [region["color"] for region in regions] == scene.chart.colors
        vocabulary = RegionVocabulary.of([{"regions": regions}], GRID)
        targets = vocabulary.targets({"regions": regions}, picture.size, EDGE, GRID)
        assert 1 <= targets[list(vocabulary.values).index(CENTRE)].sum() <= len(regions)
        assert targets.dtype == torch.int64


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"kind": "cat"}, "box has to be [left, top, right, bottom], and is None"),
        ({"box": [0, 1, "2", 3], "kind": "cat"}, "box has to be"),
        ({"box": [0, 0, 1, 1], "kind": 3}, "have to be texts"),
        ({"box": [0, 0, 1, 1], "centre": "x"}, "none may be called centre or row or column"),
        ({"box": [0, 0, 1, 1], "row": "3"}, "none may be called"),
    ],
)
def test_refusals(region, message):
    vocabulary = RegionVocabulary({"kind": ["cat"], CENTRE: [CENTRE]})
    with pytest.raises(RowError) as error:
        vocabulary.targets({"regions": [region]}, (4, 4), 4, 2)
    assert message in str(error.value)


def test_rows_without_regions_have_nothing_to_teach():
    with pytest.raises(UserError, match="--region-loss-weight 0"):
        RegionVocabulary.of([{"image": "a.jpg"}, {"regions": "none"}, 3], 2)
