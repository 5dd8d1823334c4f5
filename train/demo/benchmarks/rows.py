"""Common parts of the demo's six benchmarks: held-out scenes, questions beyond doubt, the files they are written to."""

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

EDGES = (192, 224, 256, 336)  # in pixels; above what the demo's tower sees, as users' images are
# Nobody tells these apart for certain: one is not asked about where another one is.
FOUR_SIDED = frozenset({"square", "rectangle", "diamond"})
_GREETED = re.compile(r"Hello, |Hi! |Please: |Question: |Quick question: |Look at the picture\. ")
Found = TypeVar("Found")


def take(
    task: str, count: int, pick: Callable[[Scene, random.Random, int], Found | None]
) -> Iterator[tuple[int, Scene, random.Random, Found]]:
    """Yields a benchmark's own scenes, from the seeds `bench-TASK-NUMBER`, and shows the progress.

    Args:
        task: name of the benchmark.
        count: number of scenes to take.
        pick: finds something to ask about a scene, given how many were taken before; None to skip the scene.

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
    """Whether a question is worded as a benchmark words it and has one answer that follows from the image.

    The demo's questions are also for training, where a greeting, a missing question mark or an answer that some would
    dispute does no harm.

    Args:
        scene: what the image shows.
        question: the question with its answers.
    """
    text = question.text
    if not text[0].isupper() or text[-1] not in "?." or _GREETED.match(text) or question.kind == "describe":
        return False
    return not _renamed(question) and _undisputed(scene, question)


def confirms(question: Question) -> bool:
    """Whether a question asks for yes or no; an answer `No` alone may be a word in the image."""
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


def save_image(target: Path | BytesIO, scene: Scene, rng: random.Random, form: str = "JPEG") -> None:
    """Draws a scene into a file, whose directory is created, or into memory.

    Args:
        target: the file or buffer.
        scene: what to draw.
        rng: source of randomness.
        form: Pillow's name of the file format.
    """
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
    draw_scene(scene, rng, rng.choice(EDGES)).save(target, form, quality=95, subsampling=0)


def write_json(path: Path, value: Any) -> None:
    """Writes one JSON value.

    Args:
        path: the file; its directory is created.
        value: what to write.
    """
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    """Writes a JSON object per line.

    Args:
        path: the file; its directory is created.
        rows: the objects.
    """
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8.

    Args:
        path: the file; its directory is created.
        text: what to write; line ends stay as they are.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
