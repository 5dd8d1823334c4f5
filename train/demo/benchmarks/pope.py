"""POPE's files about demo scenes: whether there is such a thing; half yes, half no, the no of three difficulties."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from ..wordings.phrases import SHORT_ANSWER
from ..world.facts import a
from ..world.scenes import COLORS, SHAPES, Scene
from .rows import FOUR_SIDED, save_image, take, write_lines

CATEGORIES = ("adversarial", "popular", "random")
POPULAR = 8  # the most frequent things that are not in the image, one of which is asked for
Pair = tuple[str, str]  # colour and shape
PAIRS: tuple[Pair, ...] = tuple(product(COLORS, SHAPES))


def write_pope(folder: Path, count: int) -> None:
    """Writes three categories of questions, each with a yes and a no about every image.

    Args:
        folder: directory of this benchmark; gets `val2014/`, the questions for the model and, in `coco/`, the labels.
        count: approximate number of questions, six about each image.
    """
    held = list(take("pope", max(1, round(count / 6)), _present))
    common = Counter(pair for _, scene, _, _ in held for pair in _pairs(scene))
    ranked = sorted(PAIRS, key=lambda pair: -common[pair])
    asked: dict[str, list[tuple[str, Pair, str]]] = {category: [] for category in CATEGORIES}
    for number, scene, rng, present in held:
        image = f"COCO_val2014_{number:012d}.jpg"
        for category in CATEGORIES:
            missing = rng.choice(_absent(scene, category, ranked))
            asked[category] += [(image, present, "yes"), (image, missing, "no")]
        save_image(folder / "val2014" / image, scene, rng)
    rows: list[dict[str, Any]] = []
    for category, questions in asked.items():
        labels = []
        for number, (image, (color, shape), label) in enumerate(questions, 1):
            text = f"Is there {a(f'{color} {shape}')} in the image?"
            labels.append({"question_id": number, "image": image, "text": text, "label": label})
            row = {"question_id": len(rows) + 1, "image": image, "text": f"{text}\n{SHORT_ANSWER}"}
            rows.append(row | {"category": category})
        write_lines(folder / "coco" / f"coco_pope_{category}.json", labels)
    write_lines(folder / "llava_pope_test.jsonl", rows)


def _present(scene: Scene, rng: random.Random, taken: int) -> Pair | None:
    return rng.choice(_pairs(scene)) if scene.things else None


def _pairs(scene: Scene) -> list[Pair]:
    """Colours and shapes in a scene, each pair once."""
    return list(dict.fromkeys((thing.color, thing.shape) for thing in scene.things))


def _absent(scene: Scene, category: str, ranked: Sequence[Pair]) -> list[Pair]:
    """Pairs that are not there beyond doubt, as a category asks about them; `ranked` is the commonest first."""
    there = _pairs(scene)
    colors, shapes = {color for color, _ in there}, {shape for _, shape in there}
    four_sided = {color for color, shape in there if shape in FOUR_SIDED}
    missing = [
        (color, shape)
        for color, shape in ranked
        if (color, shape) not in there and not (shape in FOUR_SIDED and color in four_sided)
    ]
    if category == "adversarial":
        return [(color, shape) for color, shape in missing if color in colors or shape in shapes]
    return missing[:POPULAR] if category == "popular" else missing
