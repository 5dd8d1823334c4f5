"""Reads a `tokenizer.json` of GPT-2's kind (byte-pair merges over bytes), which SentencePiece has no equal of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..json_files import read_json
from .fast_tokenizer import LARGEST_JSON, TokenizerError

MODEL, FAST = "tokenizer.model", "tokenizer.json"
CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")
SPLITTER = "ByteLevel"
MOST_TOKENS = 2**20


@dataclass(frozen=True)
class AddedToken:
    """A control token of the vocabulary.

    Attributes:
        name: its text.
        index: its id.
        special: whether a decoded text leaves it out.
        strips: whether it takes away whitespace on its left and on its right.
    """

    name: str
    index: int
    special: bool
    strips: tuple[bool, bool]


@dataclass(frozen=True)
class ByteLevelFiles:
    """Contents of the files.

    Attributes:
        text: JSON of a tokenizer that takes no text for a control token and frames nothing.
        vocabulary: ids of its pieces.
        added: control tokens.
        roles: name of the special token per role; roles that are not filled are absent.
        front: ids that every prompt begins with.
    """

    text: str
    vocabulary: dict[str, int]
    added: tuple[AddedToken, ...]
    roles: dict[str, str]
    front: tuple[int, ...]


def is_byte_level(directory: Path) -> bool:
    """Whether a directory has a byte-level `tokenizer.json` and no `tokenizer.model`.

    Raises:
        ConfigError: the file is no JSON.
    """
    if (directory / MODEL).is_file() or not (directory / FAST).is_file():
        return False
    raw = read_json(directory / FAST, LARGEST_JSON)
    model = raw.get("model") if isinstance(raw, dict) else None
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or model.get("byte_fallback"):
        return False
    return any(step.get("type") == SPLITTER for step in _steps(raw.get("pre_tokenizer"), "pretokenizers"))


def read_byte_level_files(directory: Path) -> ByteLevelFiles:
    """Reads `tokenizer.json` and those of its JSON companions that exist.

    Raises:
        TokenizerError: it is damaged, or puts tokens behind a text.
        ConfigError: a file is no JSON.
    """
    path = directory / FAST
    raw = read_json(path, LARGEST_JSON)
    companions = [read_json(directory / name) for name in (CONFIG, SPECIAL) if (directory / name).is_file()]
    try:
        added = tuple(_added(entry) for entry in raw["added_tokens"])
        vocabulary = {str(piece): int(index) for piece, index in raw["model"]["vocab"].items()}
        roles = {role: _name(part[role]) for part in companions for role in ROLES if part.get(role)}
        front = _front(raw.get("post_processor"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = str(error)[:200]
        raise TokenizerError(
            f"{path} or a file beside it is damaged ({type(error).__name__}: {reason}): copy these files again"
        ) from None
    ids = [*vocabulary.values(), *(token.index for token in added)]
    if not added or not 0 <= min(ids) <= max(ids) < MOST_TOKENS:
        raise TokenizerError(f"{path} has no control tokens, or ids out of 0 to {MOST_TOKENS:,}: copy it again")
    left_out: dict[str, Any] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return ByteLevelFiles(json.dumps(raw | left_out), vocabulary, added, roles, front)


def _steps(part: Any, key: str) -> list[dict[str, Any]]:
    """Parts of a sequence, or the one that stands for itself."""
    steps = part.get(key) if isinstance(part, dict) and part.get("type") == "Sequence" else [part]
    return [step for step in steps or [] if isinstance(step, dict)]


def _added(entry: dict[str, Any]) -> AddedToken:
    strips = (entry.get("lstrip") is True, entry.get("rstrip") is True)
    name, index = entry["content"], entry["id"]
    if not isinstance(name, str) or not name or type(index) is not int:
        raise TypeError(f"{str(entry)[:80]} is no token")
    return AddedToken(name, index, entry.get("special") is True, strips)


def _name(entry: Any) -> str:
    name = entry if isinstance(entry, str) else entry["content"]
    if not isinstance(name, str):
        raise TypeError(f"{str(entry)[:80]} is no token")
    return name


def _front(processor: Any) -> tuple[int, ...]:
    """Ids that a processor puts in front of a text."""
    ids: list[int] = []
    for step in _steps(processor, "processors"):
        if step.get("type") == SPLITTER:
            continue
        if step.get("type") != "TemplateProcessing":
            raise ValueError(f"its post_processor {str(step.get('type'))[:40]!r} is not supported")
        names = [part["SpecialToken"]["id"] if "SpecialToken" in part else None for part in step["single"]]
        if names.count(None) != 1 or names[-1] is not None:
            raise ValueError("its post_processor puts tokens behind a text, which is not supported")
        ids += [index for name in names[:-1] for index in step["special_tokens"][name]["ids"]]
    return tuple(ids)
