"""Training needs special tokens that a tokenizer's files may not name."""

import pytest

from mobilevlm.errors import UserError
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.train.special_ids import special_id
from tests.conftest import DEMO


def test_ids_are_the_tokenizers():
    tokenizer = Tokenizer(DEMO)
    assert [special_id(tokenizer, role) for role in ("eos", "unk", "pad")] == [2, 0, 0]


def test_a_token_that_no_file_names_is_said():
    tokenizer = Tokenizer(DEMO)
    tokenizer.pad_id = None
    with pytest.raises(UserError, match="no pad_token.*special_tokens_map.json"):
        special_id(tokenizer, "pad")
