"""What the demo's six benchmarks share: held-out scenes, questions nobody could argue about, the files they go into."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ..questions.question import Question
from ..wordings.phrases import SYNONYMS
from ..world.draw import draw_scene
from ..world.scenes import Scene, sample_scene

EDGES = (192, 224, 256, 336)  # above what the demo's tower sees, as people's pictures are
# Nobody tells these apart for certain: one is not asked about where another one is.
FOUR_SIDED = frozenset({"square", "rectangle", "diamond"})
_GREETED = re.compile(r"Hello, |Hi! |Please: |Question: |Quick question: |Look at the picture\. ")
Found = TypeVar("Found")


def take(
    task: str, count: int, pick: Callable[[Scene, random.Random, int], Found | None]
) -> Iterator[tuple[int, Scene, random.Random, Found]]:
    """Go through a benchmark's own scenes, from the seeds `bench-TASK-NUMBER`, and show the progress.

    Args:
        task: the benchmark.
        count: how many scenes to take.
        pick: finds something to ask about a scene, given how many were taken before; None to go on to the next.

    Yields:
        The scene's number (from 1), the scene, its random numbers from here on, and what `pick` found.
    """
    taken = 0
    with tqdm(total=count, desc=task, unit="scenes", disable=None) as bar:
        for number in itertools.count(1):
            if taken == count:
                return
            rng = random.Random(f"bench-{task}-{number}")
            scene = sample_scene(rng)
            found = pick(scene, rng, taken)
            if found is None:
                continue
            yield number, scene, rng, found
            taken += 1
            bar.update()


def sound(scene: Scene, question: Question) -> bool:
    """Whether a question is worded as a benchmark words it and has one answer that follows from the picture.

    The demo's questions are also for training, where a greeting, a missing question mark or an answer that some would
    dispute does no harm.
    """
    text = question.text
    if not text[0].isupper() or text[-1] not in "?." or _GREETED.match(text) or question.kind == "describe":
        return False
    return not _renamed(question) and _undisputed(scene, question)


def confirms(question: Question) -> bool:
    """Whether yes or no is asked for; an answer `No` alone may be a word in the picture."""
    return question.wrong in (("Yes",), ("No",))


def _renamed(question: Question) -> bool:
    """Whether the question says `large` or `plus sign` where the answers say `big` or `cross`."""
    answers = " ".join((question.short, *question.wrong))
    return any(
        re.search(rf"\b{other}\b", question.text) and re.search(rf"\b{name}\b", answers) for name, other, _ in SYNONYMS
    )


def _undisputed(scene: Scene, question: Question) -> bool:
    if scene.texts:  # is a word an object, is what is left of the star the star's neighbour or the word?
        return re.search(r"\b(number|word|says)\b", question.long) is not None
    if question.kind == "existence" and re.search(" shape| text", question.long):
        return False  # "anything black?": frames, shadows and tinted backgrounds are not in the scene
    if question.kind == "count" and question.short.isdigit() and not 1 <= int(question.short) <= 5:
        return False
    said = " ".join((question.text, question.long, *question.wrong)).lower().replace("rhombus", "diamond")
    named = {shape for shape in FOUR_SIDED if shape in said}
    return not named or len(named | FOUR_SIDED.intersection(thing.shape for thing in scene.things)) == 1


def save_picture(target: Path | BytesIO, scene: Scene, rng: random.Random, form: str = "JPEG") -> None:
    """Draw a scene into a file, whose folder is made, or into memory."""
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
    draw_scene(scene, rng, rng.choice(EDGES)).save(target, form, quality=95, subsampling=0)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Write a JSON object per line."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Write a text whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
