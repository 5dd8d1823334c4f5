"""Reads the tokenizer files of a checkpoint, with the meaning transformers 4.33 gives them.

Where and how a special token is written decides whether it strips whitespace from the text beside it: as a plain string
or as an object, in one file or in another.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from ..errors import shown
from ..json_files import read_json
from ..stand_ins import stand_in
from .byte_level_files import is_byte_level
from .fast_tokenizer import FastTokenizer, TokenizerError, convert

__all__ = ["TokenizerError", "TokenizerFiles", "read_tokenizer_files", "write_tokenizer_files"]

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
MORE = "additional_special_tokens"
MODEL, FAST, CONFIG, ADDED = "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"
COMPANIONS = (CONFIG, "special_tokens_map.json", ADDED)
MOST_ADDED = 4096
LARGEST_MODEL = 2**26  # bytes; LLaMA's has 0.5 MB

# ModelProto.normalizer_spec.add_dummy_prefix = false in protobuf's wire format. Appended to a serialised model it is
# merged in (https://protobuf.dev/programming-guides/encoding/#last-one-wins). This needs no protobuf package and no
# `override_normalizer_spec`, which sentencepiece 0.2.3 no longer has.
NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"

COPY_AGAIN = "copy these files from the checkpoint again"
BYTE = re.compile("<0x[0-9A-Fa-f]{2}>")
Entry = str | dict[str, Any]


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
    """Read `tokenizer.model`, or `tokenizer.json` in its place, and those of its JSON companions that exist.

    Raises:
        TokenizerError: `tokenizer.model` is missing or broken, or a companion is of no known form.
        ConfigError: a JSON companion cannot be read.
    """
    config, special, added = (read_json(directory / n) if (directory / n).is_file() else {} for n in COMPANIONS)
    fast = _fast(directory)
    legacy = config.get("legacy", fast.legacy if fast else None) in (None, True)
    model = _load_model(directory / MODEL, legacy, fast)
    try:
        entries = _special_entries(config, special)
        by_id = {int(index): _name(entry) for index, entry in config.get("added_tokens_decoder", {}).items()}
        by_id |= {int(index): _name(name) for name, index in added.items()}
        by_id |= fast.added if fast and not by_id else {}
        files = TokenizerFiles(
            model=model,
            legacy=legacy,
            add_bos=_flag(config, "add_bos_token", True),
            add_eos=_flag(config, "add_eos_token", False),
            roles={role: _name(found[0]) for role, found in entries.items() if found},
            strips=_strips(entry for found in entries.values() for entry in found),
            added=dict(sorted(by_id.items())),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise TokenizerError(
            f"{directory} has special tokens of no known form in {', '.join(COMPANIONS)} ({type(error).__name__}: "
            f"{str(error)[:200]}): {COPY_AGAIN}"
        ) from None
    if len(files.strips) + len(files.added) > MOST_ADDED:
        raise TokenizerError(f"{directory} names more than {MOST_ADDED} added tokens in {', '.join(COMPANIONS)}")
    return files


def write_tokenizer_files(source: Path, target: Path) -> None:
    """Copy a checkpoint's tokenizer files; a `tokenizer.json` alone becomes the `tokenizer.model` it equals, if any.

    Args:
        source: directory of the checkpoint.
        target: another directory, which exists; files that the source lacks are left as they are.

    Raises:
        TokenizerError: `tokenizer.json` cannot be converted.
    """
    for name in (MODEL, *COMPANIONS):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if is_byte_level(source):
        shutil.copyfile(source / FAST, target / FAST)
        return
    fast = _fast(source)
    if fast is None:
        return
    (target / MODEL).write_bytes(fast.model)
    config = read_json(source / CONFIG) if (source / CONFIG).is_file() else {}
    if not config.get("added_tokens_decoder") and not (source / ADDED).is_file() and fast.added:
        text = json.dumps({name: index for index, name in fast.added.items()}, indent=2)
        (target / ADDED).write_text(text + "\n", encoding="utf-8")
    if "legacy" not in config and not fast.legacy:
        text = json.dumps(config | {"legacy": False}, indent=2)
        (target / CONFIG).write_text(text + "\n", encoding="utf-8")


def _fast(directory: Path) -> FastTokenizer | None:
    """Converted `tokenizer.json`, where that is all there is."""
    alone = (directory / FAST).is_file() and not (directory / MODEL).is_file()
    return convert(directory / FAST) if alone else None


def _load_model(path: Path, legacy: bool, fast: FastTokenizer | None) -> SentencePieceProcessor:
    remedy = "copy the file from the checkpoint again (some 130 bytes mean a git-lfs pointer: run `git lfs pull` there)"
    if fast is None and not path.is_file():
        raise TokenizerError(f"{path} is missing: {remedy}")
    if fast is None and (sentence := stand_in(path)):
        raise TokenizerError(sentence)
    if fast is None and path.stat().st_size > LARGEST_MODEL:
        raise TokenizerError(f"{path} has {path.stat().st_size:,} bytes; a SentencePiece model has some 500,000")
    model = fast.model if fast else path.read_bytes()
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


def _flag(config: dict[str, Any], key: str, default: bool) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{key} is {shown(value)}; true or false is needed")
    return default if value is None else value


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
            strips.setdefault(_name(entry), (True, True))
        else:
            strips[_name(entry)] = (_flag(entry, "lstrip", False), _flag(entry, "rstrip", False))
    return strips


def _name(entry: Entry) -> str:
    name = entry if isinstance(entry, str) else entry["content"]
    if not isinstance(name, str) or not name:
        raise TypeError(f"{str(entry)[:80]} is no token")
    name.encode()  # fails for lone surrogates, which no text has
    return name
