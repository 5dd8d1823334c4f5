"""Form of an annotation file's rows for each use, the same for prepare_data, for training and for calibration.

Needs no PyTorch.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ..text.prompt import IMAGE, Style, Template
from ..text_file import lone_surrogate
from .annotations import Row
from .image_names import name_problem

# Keys under which others name what a row is about. Only `image` is read: such a row would be learned blind.
_UNREAD = ("images", "image_path", "image_file", "image_url", "img", "picture", "pictures")
# What programs write where an image, video or sound goes; `<image>` among them.
_PLACEHOLDER = re.compile(r"<\|?(image|video|audio)(?:here|_?pad|_?\d+|_token)?\|?>", re.IGNORECASE)
_UNSEEN = ("video", "videos", "audio", "audios")


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
        row: the parsed row, see `forms.as_conversation`.
        form: see `DataSet`; not "table", see `mmbench_table`. "shown" is that of conversations which are only looked
            at: as "v1", but an image that no `<image>` stands for comes first.
        sees_images: whether the rows are for a model with vision.
    """
    if not isinstance(row, dict):
        return f"is {json.dumps(row)[:40]}, not an object"
    named = row.get("image")
    if named is not None and not (named and (isinstance(named, str) or _is_list_of(str, named))):
        return f"image is {json.dumps(named)[:40]}, not a path or a list of paths"
    if problem := next(filter(None, map(name_problem, images_of(row))), None):
        return problem
    if form == "question":
        lacks = [name for name in ("question_id", "image", "text") if row.get(name) in (None, "")]
        return f"has no {', '.join(lacks)}" if lacks else None
    if named and not sees_images:
        return "has an image, but the model that is trained sees none"
    return _conversation_problem(row, form)


def turns_of(row: Row) -> list[dict[str, str]]:
    """Turns from the first question on, of a row that `problem_of` accepts: one of gpt's before it is dropped."""
    turns = row["conversations"]
    return turns[1:] if turns[0]["from"] == "gpt" else turns


def why_unlearned(row: Row) -> str | None:
    """Reason why training by "v1" learns nothing from a row that `problem_of` accepts; None where it learns.

    It does as the original: where a conversation does not fall into questions with answers, all of it is left out.
    """
    turns = turns_of(row)
    if turns[-1]["from"] == "human":
        return "its last turn is a question without an answer"
    for number, turn in enumerate(turns, 1 + len(row["conversations"]) - len(turns)):
        for separator in (" ASSISTANT: ", "</s>"):
            if separator in turn["value"]:
                return f"turn {number} has {separator!r} in it, which separates turns"
    return None


def _is_list_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


def _conversation_problem(row: dict, form: str) -> str | None:
    turns = row.get("conversations")
    if not _is_list_of(dict, turns) or not turns:
        return "conversations is missing, empty or no list of objects"
    for number, turn in enumerate(turns, 1):
        if turn.get("from") == "system":
            return f"turn {number} is from system: put its text into the first question, or leave the turn out"
        if turn.get("from") not in ("human", "gpt"):
            return f"turn {number} is from {json.dumps(turn.get('from'))[:40]}, not human or gpt"
        if not isinstance(turn.get("value"), str):
            return f"turn {number} has no text in value" + (
                ", but a list" if isinstance(turn.get("value"), list) else ""
            )
        if half := lone_surrogate(turn["value"]):
            return f"turn {number} has half a character ({half}, a lone surrogate): write the whole one or leave it out"
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
    if "gpt" not in speakers[skipped:]:
        return "has no answer from gpt: nothing would be learned from it"
    return _empty_turn(turns, skipped) or _placeholder_problem(row, turns[skipped:], form)


def _empty_turn(turns: list[dict], skipped: int) -> str | None:
    """Problem of a turn without text: an answer of nothing would be learned, or all of the row left out."""
    empty = [number for number, turn in enumerate(turns, 1) if number > skipped and not turn["value"].strip()]
    return f"turn {empty[0]} is empty" if empty else None


def _caption_problem(row: dict, turns: list[dict], speakers: list[str]) -> str | None:
    if speakers != ["human", "gpt"]:
        return f"has turns from {', '.join(speakers)[:60]}; the plain template takes human, gpt"
    if not images_of(row):
        return _unread(row) or "has no image, which the plain template needs"
    if IMAGE.name not in turns[0]["value"]:
        return f"has no {IMAGE.name} in its first turn"
    return _empty_turn(turns, 0) or _placeholder_problem(row, turns, "plain")


def _placeholder_problem(row: dict, turns: list[dict], form: str) -> str | None:
    """Problem of the image tokens.

    A single image belongs to one turn, which may name it twice; of several, each has one image token.
    """
    count = len(images_of(row))
    if problem := _unread(row):
        return problem
    if not count:
        return _blind(turns, False)
    places = sum(turn["value"].count(IMAGE.name) for turn in turns)
    if isinstance(row.get("image"), str):
        places = sum(IMAGE.name in turn["value"] for turn in turns)
    if places != count and not (form == "shown" and places == 0):
        return f"has {count} image(s) and {places} time(s) {IMAGE.name}"
    asked, answered = (any(IMAGE.name in turn["value"] for turn in turns[start::2]) for start in (0, 1))
    if answered and (form == "plain" or not asked):
        return f"has {IMAGE.name} in an answer: it belongs into the question"
    return _blind(turns, True)


def _unread(row: dict) -> str | None:
    """Problem of a row that names what it is about under a key that is not read."""
    if key := next((key for key in _UNSEEN if row.get(key)), None):
        return f"has {key}, which the model cannot take in: leave the row out"
    key = next((key for key in _UNREAD if row.get(key)), None)
    return f"has no image, and names some under {key}: call the key image" if key and not images_of(row) else None


def _blind(turns: list[dict], has_images: bool) -> str | None:
    """Problem of a placeholder that no image takes the place of, and that would be learned as text.

    It may be text, as in a conversation about XML: not where it has a line to itself, nor where only the questions or
    only the answers begin or end with it; and always in a turn that closes the element.
    """
    at_an_end, sides = "", set()
    for number, turn in enumerate(turns):
        text = (turn["value"].replace(IMAGE.name, "") if has_images else turn["value"]).strip()
        places = [found for found in _PLACEHOLDER.finditer(text) if f"</{found[1]}" not in text]
        if not places:
            continue
        sides.add(number % 2)
        alone = next((one[0] for one in places if one[0] in (_line(text, 0), _line(text, -1))), "")
        if alone:
            return _learned_as_text(alone)
        at_an_end = at_an_end or next((one[0] for one in places if one.start() == 0 or one.end() == len(text)), "")
    return _learned_as_text(at_an_end) if at_an_end and len(sides) == 1 else None


def _line(text: str, number: int) -> str:
    return text.split("\n")[number].strip()


def _learned_as_text(placeholder: str) -> str:
    no_image = "no image" if placeholder == IMAGE.name else f"only {IMAGE.name} stands for an image"
    return f"has {placeholder} and {no_image}: it would be learned as text"
