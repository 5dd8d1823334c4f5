"""Converts a `tokenizer.json` of LLaMA's kind (byte-pair merges with byte fallback) into a SentencePiece model.

Both give the same ids where the merges are what SentencePiece would do: it joins any two neighbours whose text is a
piece, the best-scored piece first. So every such pair has to be among the merges, and the merges of one piece have to
stand together; its place is its score. Anything else is refused, and so are normalisations other than writing a space
as U+2581.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..json_files import read_json

SPACE = "\u2581"  # how SentencePiece writes a space
LARGEST_JSON = 2**26  # bytes; LLaMA's has 2 MB, the largest vocabularies some 30
MOST_PIECES = 2**20
LONGEST_PIECE = 256  # characters; SentencePiece trains pieces of 16
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # ModelProto.SentencePiece.Type
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


class TokenizerError(UserError):
    """The tokenizer files cannot be used, or a prompt asks for a token they do not have."""


@dataclass(frozen=True)
class FastTokenizer:
    """A converted `tokenizer.json`.

    Attributes:
        model: the SentencePiece model, serialised.
        added: names by id of the tokens behind the vocabulary.
        legacy: whether every text between control tokens begins with a space, not only the first.
    """

    model: bytes
    added: dict[int, str]
    legacy: bool


def convert(path: Path) -> FastTokenizer:
    """Convert a `tokenizer.json`.

    Raises:
        TokenizerError: SentencePiece would give other ids; the message says why.
        ConfigError: the file is no JSON.
    """
    raw = read_json(path, LARGEST_JSON)
    try:
        model, added = _object(raw.get("model")), _added_tokens(raw.get("added_tokens") or [])
        prefix, legacy = _spaces(raw)
        _check_model(model)
        vocab = model["vocab"]
        pieces = _by_id(vocab, added)
        types = _types(pieces, model.get("unk_token") or "<unk>", {name for name, special in added.values() if special})
        scores = _scores(pieces, types, _pairs(model["merges"]))
    except (_Unlike, KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
        reason = str(error) if isinstance(error, _Unlike) else f"it is damaged ({type(error).__name__}: {error})"
        raise TokenizerError(
            f"{path} cannot be used in place of a tokenizer.model: {reason}. Copy tokenizer.model from the checkpoint "
            "that this one was made from"
        ) from None
    behind = {index: name for index, (name, _) in sorted(added.items()) if index >= len(pieces)}
    return FastTokenizer(_serialised(pieces, types, scores, prefix), behind, legacy)


class _Unlike(Exception):
    """A tokenizer that SentencePiece does not equal; says in what."""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Unlike("it describes no model")
    return value


def _added_tokens(entries: list[dict[str, Any]]) -> dict[int, tuple[str, bool]]:
    """Name of each added token by its id, and whether it is special."""
    added = {entry["id"]: (entry["content"], entry.get("special") is True) for entry in entries}
    if not all(type(index) is int and isinstance(name, str) and name for index, (name, _) in added.items()):
        raise _Unlike("its added tokens are damaged")
    return added


def _spaces(raw: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a text gets a space in front, and `FastTokenizer.legacy`; refuses every other normalisation."""
    normalizer, splitter = raw.get("normalizer") or {}, raw.get("pre_tokenizer")
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    kinds = [step for step in steps if step]
    prepends = [step for step in kinds if step.get("type") == "Prepend" and step.get("prepend") == SPACE]
    space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    if splitter is None and kinds in ([*prepends, space], [space, *prepends]) and len(prepends) < 2:
        return bool(prepends), True
    if not kinds and isinstance(splitter, dict) and splitter.get("type") == "Metaspace":
        scheme = splitter.get("prepend_scheme", "always" if splitter.get("add_prefix_space", True) else "never")
        if splitter.get("replacement") == SPACE and not splitter.get("split", True) and scheme in _SCHEMES:
            return scheme != "never", scheme != "first"
    shown = [str((step or {}).get("type")) for step in (*kinds, splitter)]
    raise _Unlike(f"it changes or splits text in another way than LLaMA's ({', '.join(shown)})")


_SCHEMES = ("always", "first", "never")


def _check_model(model: dict[str, Any]) -> None:
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise _Unlike(f"its model is {str(model.get('type'))[:40]!r}, and only BPE can be converted")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        if model.get(key):
            raise _Unlike(f"its model has {key} {str(model[key])[:40]!r}")
    if model.get("byte_fallback") is not True or not all(byte in model["vocab"] for byte in BYTES):
        raise _Unlike("its model has no byte fallback (it may be a byte-level BPE, of another family of models)")
    if len(model["vocab"]) > MOST_PIECES:
        raise _Unlike(f"its vocabulary has {len(model['vocab']):,} pieces, at most {MOST_PIECES:,} are read")


def _by_id(vocab: dict[str, int], added: dict[int, tuple[str, bool]]) -> list[str]:
    """Pieces in the order of their ids, which have to be 0, 1, 2 and so on."""
    names = {index: name for name, index in vocab.items()}
    if not all(type(index) is int for index in names) or len(names) != len(vocab) or not names:
        raise _Unlike("ids of its vocabulary are damaged or used twice")
    end = max(names) + 1
    if end > len(names) + len(added):
        raise _Unlike(f"its vocabulary has {len(names)} pieces and ids up to {end - 1}")
    names |= {index: name for index, (name, _) in added.items() if index < end and index not in names}
    if sorted(names) != list(range(end)) or len(set(names.values())) != end:
        raise _Unlike("ids of its vocabulary have holes or are used twice")
    if any(not name or len(name) > LONGEST_PIECE for name in names.values()):
        raise _Unlike(f"its vocabulary has an empty piece, or one longer than {LONGEST_PIECE} characters")
    return [names[index] for index in range(end)]


def _types(pieces: list[str], unknown: Any, special: set[str]) -> list[int]:
    """Type of each piece."""
    known = {name: BYTE for name in BYTES} | dict.fromkeys(special, CONTROL) | {unknown: UNKNOWN}
    types = [known.get(piece, NORMAL) for piece in pieces]
    if types.count(UNKNOWN) != 1:
        raise _Unlike(f"its unk_token {unknown!r} is not in its vocabulary")
    return types


def _pairs(merges: list[Any]) -> list[tuple[str, str]]:
    """Merges as pairs, from either form: ["a b"] or [["a", "b"]]."""
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
    if not all(len(pair) == 2 and all(isinstance(part, str) and part for part in pair) for pair in pairs):
        raise _Unlike("its merges are no pairs")
    return [(left, right) for left, right in pairs]


def _scores(pieces: list[str], types: list[int], pairs: list[tuple[str, str]]) -> list[float]:
    """Score of each piece: minus the place of its merges; checks that these are all that SentencePiece does."""
    order = [text for text, _ in groupby(left + right for left, right in pairs)]
    ranks = {text: rank for rank, text in enumerate(order)}
    if len(ranks) != len(order):
        raise _Unlike("its merges of one piece do not stand together")
    normal = {piece for piece, kind in zip(pieces, types, strict=True) if kind == NORMAL}
    known = set(pairs)
    for left, right in known:
        if not {left, right, left + right} <= normal:
            raise _Unlike(f"it merges {left!r} and {right!r}, which are no pieces")
    for piece in normal:
        for cut in range(1, len(piece)):
            pair = piece[:cut], piece[cut:]
            if pair not in known and pair[0] in normal and pair[1] in normal:
                raise _Unlike(f"it does not merge {pair[0]!r} and {pair[1]!r} into its piece {piece!r}")
    last = -float(len(ranks))  # of pieces that nothing is merged into
    return [float(-ranks[piece]) if piece in ranks else last if piece in normal else 0.0 for piece in pieces]


def _serialised(pieces: list[str], types: list[int], scores: list[float], prefix: bool) -> bytes:
    """ModelProto in protobuf's wire format; field numbers are those of sentencepiece_model.proto."""
    proto = bytearray()
    for piece, kind, score in zip(pieces, types, scores, strict=True):
        proto += _field(1, _field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind))
    # model_type BPE, vocab_size, byte_fallback.
    proto += _field(2, _number(3, 2) + _number(4, len(pieces)) + _number(35, 1))
    # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces.
    proto += _field(3, _field(1, b"identity") + _number(3, int(prefix)) + _number(4, 0) + _number(5, 1))
    return bytes(proto)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
