"""Reads the tokenizer files of a checkpoint, with the meaning transformers 4.33 gives them.

Where and how a special token is written decides whether it strips whitespace from the text beside it: as a plain string
or as an object, in one file or in another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ..errors import UserError
from ..json_files import read_json

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
MORE = "additional_special_tokens"

# ModelProto.normalizer_spec.add_dummy_prefix = false in protobuf's wire format. Appended to a serialised model it is
# merged in (https://protobuf.dev/programming-guides/encoding/#last-one-wins). This needs no protobuf package and no
# `override_normalizer_spec`, which sentencepiece 0.2.3 no longer has.
NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"

COPY_AGAIN = "copy these files from the checkpoint again"
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
Entry = str | dict[str, Any]
LARGEST_FILE = 1 << 26  # bytes; the model of a vocabulary of 256,000 has some 5 MB


class TokenizerError(UserError):
    """The tokenizer files cannot be used, or a prompt asks for a token they do not have."""


@dataclass(frozen=True)
class TokenizerFiles:
    """Contents of the tokenizer files.

    Attributes:
        model: the SentencePiece model, adding no space of its own in front of a text unless `legacy`.
        legacy: `legacy` of the configuration; null counts as true.
        add_bos, add_eos: whether encoding frames the ids with these.
        roles: name of the special token per role (`bos_token`, ...); roles that are not filled are absent.
        strips: special token names, each with whether it takes away whitespace on its left and on its right.
        added: names by id, in ascending order, of `added_tokens.json` and of `added_tokens_decoder`.
    """

    model: SentencePieceProcessor
    legacy: bool
    add_bos: bool
    add_eos: bool
    roles: dict[str, str]
    strips: dict[str, tuple[bool, bool]]
    added: dict[int, str]


def read_tokenizer_files(directory: Path) -> TokenizerFiles:
    """Read `tokenizer.model` and those of its JSON companions that exist.

    Raises:
        TokenizerError: `tokenizer.model` is missing or broken, or a companion is of no known form.
        ConfigError: a JSON companion cannot be read.
    """
    names = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
    for name in (*names, "tokenizer.model"):
        if (directory / name).is_file() and (directory / name).stat().st_size > LARGEST_FILE:
            raise TokenizerError(f"{directory / name} has more than {LARGEST_FILE} bytes: {COPY_AGAIN}")
    config, special, added = (read_json(directory / name) if (directory / name).is_file() else {} for name in names)
    legacy = config.get("legacy") in (None, True)
    model = _load_model(directory / "tokenizer.model", legacy)
    try:
        entries = _special_entries(config, special)
        by_id = {int(index): _name(entry) for index, entry in config.get("added_tokens_decoder", {}).items()}
        by_id |= {int(index): str(name) for name, index in added.items()}
        return TokenizerFiles(
            model=model,
            legacy=legacy,
            add_bos=_flag(config, "add_bos_token", True),
            add_eos=_flag(config, "add_eos_token", False),
            roles={role: _name(found[0]) for role, found in entries.items() if found},
            strips=_strips(entry for found in entries.values() for entry in found),
            added=dict(sorted(by_id.items())),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise TokenizerError(
            f"{directory} has special tokens of no known form in {', '.join(names)} ({type(error).__name__}: "
            f"{str(error)[:200]}): {COPY_AGAIN}"
        ) from None


def _load_model(path: Path, legacy: bool) -> SentencePieceProcessor:
    remedy = "copy the file from the checkpoint again (some 130 bytes mean a git-lfs pointer: run `git lfs pull` there)"
    if not path.is_file():
        raise TokenizerError(f"{path} is missing: {remedy}")
    model = path.read_bytes()
    # SentencePiece takes an empty model for none given and would only fail at the first text.
    if model:
        try:
            processor = SentencePieceProcessor(model_proto=model if legacy else model + NO_DUMMY_PREFIX)
            if _has_sound_pieces(processor):
                return processor
        except (RuntimeError, UnicodeDecodeError):
            pass
    raise TokenizerError(f"{path} ({len(model)} bytes) is no SentencePiece model: {remedy}")


def _has_sound_pieces(model: SentencePieceProcessor) -> bool:
    """Whether every piece is text, and those that stand for a byte say which: `<0x41>`."""
    ids = list(range(model.get_piece_size()))
    pieces = model.id_to_piece(ids)
    return all(BYTE.fullmatch(piece) for piece, is_byte in zip(pieces, model.is_byte(ids), strict=True) if is_byte)


def _special_entries(config: dict[str, Any], special: dict[str, Any]) -> dict[str, list[Entry]]:
    """Entries of special tokens by role, in the order that decides which id a missing one gets."""
    roles = {role: config.get(role, DEFAULTS.get(role)) for role in ROLES}
    # For these roles 4.33 turns a plain string of tokenizer_config.json, but not of special_tokens_map.json, into an
    # object: one that leaves whitespace alone.
    roles |= {role: {"content": roles[role]} for role in DEFAULTS if isinstance(roles[role], str)}
    roles |= {role: special[role] for role in ROLES if role in special}
    found = {role: [entry] if entry else [] for role, entry in roles.items()}
    return found | {MORE: special.get(MORE, config.get(MORE)) or []}


def _strips(entries: Iterable[Entry]) -> dict[str, tuple[bool, bool]]:
    """Whitespace that each token strips, left and right: a plain string both; an object, which wins, what it names."""
    strips: dict[str, tuple[bool, bool]] = {}
    for entry in entries:
        if isinstance(entry, str):
            strips.setdefault(entry, (True, True))
        else:
            strips[_name(entry)] = (_flag(entry, "lstrip", False), _flag(entry, "rstrip", False))
    return strips


def _name(entry: Entry) -> str:
    """Text of a special token.

    Raises:
        TypeError: it has none.
    """
    name = entry if isinstance(entry, str) else entry["content"]
    if not isinstance(name, str) or not name:
        raise TypeError(f"{str(entry)[:80]} is no token")
    return name


def _flag(holder: dict[str, Any], name: str, default: bool) -> bool:
    """Value of a field that is true or false; null counts as absent.

    Args:
        holder: object with the field.
        name: of the field.
        default: where it is absent.

    Raises:
        TypeError: it is something else.
    """
    value = holder.get(name)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} is {str(value)[:80]}")
    return default if value is None else value
