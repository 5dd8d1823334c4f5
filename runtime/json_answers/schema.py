"""A JSON schema as a grammar of llguidance, refused where it is none, or where it would take too long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mobilevlm.errors import UserError

from .library import llguidance

if TYPE_CHECKING:
    from llguidance import LLTokenizer

_MOST_BYTES, _DEEPEST = 65536, 64
# One form of each document: no white space but what `json.dumps` writes. The first token of an answer may begin with
# the space that SentencePiece puts before a word.
_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_GRAMMAR = 'start: " "? document\ndocument: %json '


def grammar_of(schema: Mapping[str, Any]) -> str:
    """Returns the grammar of a schema, which `checked` has to compile yet.

    Raises:
        UserError: it is no JSON object, or too large.
    """
    if not isinstance(schema, Mapping):
        raise UserError(f"the JSON schema is {type(schema).__name__}, it has to be an object")
    _check_depth(schema)
    try:
        text = json.dumps({**schema, "x-guidance": _OPTIONS}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"the JSON schema is not JSON: {error}") from None
    if len(text) > _MOST_BYTES:
        raise UserError(f"the JSON schema has {len(text)} bytes, at most {_MOST_BYTES} are taken")
    return _GRAMMAR + text


def check(grammar: str, tokenizer: LLTokenizer) -> None:
    """Compiles a grammar once, to say what is wrong with its schema.

    Args:
        grammar: as `grammar_of` returns it.
        tokenizer: whose tokens it restricts.

    Raises:
        UserError: it is malformed, or uses what llguidance cannot enforce.
    """
    failed, messages = llguidance().LLMatcher.validate_grammar_with_warnings(grammar, tokenizer)
    if failed:
        raise UserError(refusal(messages[0]))


def refusal(message: str) -> str:
    """Returns a sentence with llguidance's reason, without the place in a grammar that nobody wrote."""
    reason = message.partition("\n   1 | ")[0].partition("failed to compile JSON schema: ")
    text = " ".join((reason[2] or reason[0]).split())
    return f"the JSON schema cannot be enforced: {text[:400]}"


def _check_depth(schema: object) -> None:
    """Refuses nesting that is deeper than any schema's, a schema that contains itself among them."""
    level, depth = [schema], 0
    while level:
        if depth > _DEEPEST or len(level) > _MOST_BYTES:
            raise UserError(f"the JSON schema is nested deeper than {_DEEPEST} levels, or too large")
        inner: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                inner += one.values()
            elif isinstance(one, list | tuple):
                inner += one
        level, depth = inner, depth + 1
