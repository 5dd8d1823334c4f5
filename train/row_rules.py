"""Form of an annotation file's rows for each use, the same for prepare_data and for training.

Needs no PyTorch.
"""

from __future__ import annotations

import json
from typing import Any

from mobilevlm.text.prompt import IMAGE, Style, Template

from .annotations import Row


def form_of(template: Template) -> str:
    """Form (see `DataSet`) that training with a template takes."""
    return "plain" if template.style is Style.PLAIN else "v1"


def images_of(row: Row) -> list[str]:
    """Image paths of a row that `problem_of` has accepted."""
    named = row.get("image") or []
    return [named] if isinstance(named, str) else list(named)


def problem_of(row: Row, form: str, sees_images: bool = True) -> str | None:
    """Returns the problem of a row in words, found without opening its images; None if there is none.

    Args:
        row: the parsed row.
        form: see `DataSet`; not "table", see `mmbench_table`.
        sees_images: whether the rows are for a model with vision.
    """
    if not isinstance(row, dict):
        return f"is {json.dumps(row)[:40]}, not an object"
    named = row.get("image")
    if named is not None and not (named and (isinstance(named, str) or _is_list_of(str, named))):
        return f"image is {json.dumps(named)[:40]}, not a path or a list of paths"
    if form == "question":
        lacks = [name for name in ("question_id", "image", "text") if row.get(name) in (None, "")]
        return f"has no {', '.join(lacks)}" if lacks else None
    if named and not sees_images:
        return "has an image, but the model that is trained sees none"
    return _conversation_problem(row, form)


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _conversation_problem(row: dict, form: str) -> str | None:
    turns = row.get("conversations")
    if not _is_list_of(dict, turns) or not turns:
        return "conversations is missing, empty or no list of objects"
    for number, turn in enumerate(turns, 1):
        if turn.get("from") not in ("human", "gpt"):
            return f"turn {number} is from {json.dumps(turn.get('from'))[:40]}, not human or gpt"
        if not isinstance(turn.get("value"), str):
            return f"turn {number} has no text in value"
    if not any(turn["value"].strip() for turn in turns):
        return "its turns are empty"
    if form == "any":
        return None
    speakers = [turn["from"] for turn in turns]
    if form == "plain":
        return _caption_problem(row, turns, speakers)
    skipped = speakers[0] == "gpt"  # training drops one such turn
    if speakers == ["gpt"]:
        return "has one turn only, from gpt"
    for number in range(skipped, len(speakers)):
        if speakers[number] != ("human", "gpt")[(number - skipped) % 2]:
            return f"turn {number + 1} is from {speakers[number]} again: turns have to alternate"
    return _placeholder_problem(row, turns[skipped:])


def _caption_problem(row: dict, turns: list[dict], speakers: list[str]) -> str | None:
    if speakers != ["human", "gpt"]:
        return f"has turns from {', '.join(speakers)[:60]}; the plain template takes human, gpt"
    if not images_of(row):
        return "has no image, which the plain template needs"
    if IMAGE.name not in turns[0]["value"]:
        return f"has no {IMAGE.name} in its first turn"
    return _placeholder_problem(row, turns)


def _placeholder_problem(row: dict, turns: list[dict]) -> str | None:
    """Problem of the image tokens.

    A single image belongs to one turn, which may name it twice; of several, each has one image token.
    """
    count = len(images_of(row))
    places = sum(turn["value"].count(IMAGE.name) for turn in turns)
    if isinstance(row.get("image"), str):
        places = sum(IMAGE.name in turn["value"] for turn in turns)
    return f"has {count} image(s) and {places} time(s) {IMAGE.name}" if count and places != count else None
