"""Ids of the special tokens that training cannot do without."""

from __future__ import annotations

from typing import Literal

from mobilevlm.errors import UserError
from mobilevlm.text.tokenizer import Tokenizer


def special_id(tokenizer: Tokenizer, role: Literal["eos", "unk", "pad"]) -> int:
    """Returns the id of a special token.

    Args:
        tokenizer: the tokenizer of the model that is trained.
        role: which token.

    Raises:
        UserError: the tokenizer's files name no such token.
    """
    index = {"eos": tokenizer.eos_id, "unk": tokenizer.unk_id, "pad": tokenizer.pad_id}[role]
    if index is None:
        raise UserError(f"the tokenizer has no {role}_token, which training needs: name one in special_tokens_map.json")
    return index
