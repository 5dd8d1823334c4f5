"""Conversations in the forms of others (OpenAI's `messages`, `role` and `content`), as rows with `human` and `gpt`."""

from __future__ import annotations

from typing import Any

# Keys of a turn, its speaker's first.
_KEYS = (("from", "value"), ("role", "content"))
_USUAL = ("human", "gpt")
_SPEAKERS = {"user": "human", "assistant": "gpt", "human": "human", "gpt": "gpt"}


def as_conversation(row: Any) -> Any:
    """Row as training takes it: `conversations` with turns `{"from": "human" | "gpt", "value": ...}`.

    Turns may stand under `messages`, have `role` and `content`, and be from `user` and `assistant`. A row that is of
    one of these forms is copied into the usual one; any other, one that mixes them too, is returned as it is, for
    `rules.problem_of` to name what is wrong.
    """
    if not isinstance(row, dict):
        return row
    name = "messages" if row.get("messages") and not row.get("conversations") else "conversations"
    turns = row.get(name)
    if not isinstance(turns, list) or not turns:
        return row
    if name == "conversations" and all(isinstance(turn, dict) and turn.get("from") in _USUAL for turn in turns):
        return row
    speaker, text = next((keys for keys in _KEYS if all(_has(turn, keys) for turn in turns)), ("", ""))
    if not speaker:
        return row
    said = [turn for turn in turns if not (turn[speaker] == "system" and turn[text] in (None, ""))]
    names = {turn[speaker] if isinstance(turn[speaker], str) else "" for turn in said}
    known = not names & {"human", "gpt"} or not names & {"user", "assistant"}
    renamed = [{"from": _renamed(turn[speaker], known), "value": turn[text]} for turn in said]
    return {key: value for key, value in row.items() if key != name} | {"conversations": renamed}


def _has(turn: Any, keys: tuple[str, str]) -> bool:
    return isinstance(turn, dict) and all(key in turn for key in keys)


def _renamed(speaker: Any, known: bool) -> Any:
    return _SPEAKERS.get(speaker, speaker) if known and isinstance(speaker, str) else speaker
