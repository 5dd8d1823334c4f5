"""A model's tokens as llguidance takes them, and the schemas compiled for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mobilevlm.errors import UserError
from mobilevlm.text.tokenizer import Tokenizer

from .constraint import JsonConstraint
from .library import llguidance
from .pieces import Pieces
from .schema import check, grammar_of
from .string_ending import BYTES

if TYPE_CHECKING:
    from llguidance import LLTokenizer


class JsonGrammars:
    """Compiler of JSON schemas for one model.

    Args:
        tokenizer: of the model.
        vocabulary: number of logits, V; more than the tokenizer's tokens where the vocabulary is padded.

    Raises:
        UserError: llguidance is missing, or the tokenizer has no token that ends an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocabulary: int):
        if tokenizer.eos_id is None:
            raise UserError("the tokenizer has no EOS token: an answer in JSON could not be ended")
        self._eos_id = tokenizer.eos_id
        tokens = [tokenizer.token_bytes(index) for index in range(min(len(tokenizer), vocabulary))]
        self._pieces = Pieces(tokens + [b""] * (vocabulary - len(tokens)))
        self._tokens = _library_tokenizer(_Vocabulary(self._pieces, tokenizer.eos_id))
        self._bytes = _library_tokenizer(_Vocabulary(Pieces([bytes([byte]) for byte in range(BYTES)] + [b""]), BYTES))

    def constraint(self, schema: Mapping[str, Any]) -> JsonConstraint:
        """Returns the constraint of answers that follow a schema.

        Raises:
            UserError: it is malformed, too large, or uses what cannot be enforced.
        """
        grammar, library = grammar_of(schema), llguidance()
        check(grammar, self._tokens)
        options = {"log_level": 0, "limits": library.LLParserLimits(verbose_errors=False)}
        along = (library.LLMatcher(tokenizer, grammar, **options) for tokenizer in (self._tokens, self._bytes))
        return JsonConstraint(self._pieces, self._eos_id, *along)


class _Vocabulary:
    """What llguidance asks of a tokenizer; those are its names."""

    def __init__(self, pieces: Pieces, eos_id: int):
        self.eos_token_id, self.bos_token_id = eos_id, None
        self.tokens, self._pieces = list(pieces.tokens), pieces
        self.special_token_ids = [eos_id]

    def __call__(self, text: bytes | str) -> list[int]:
        """Returns tokens that spell a text: the ones that are taken where the grammar leaves no choice of bytes."""
        return list(self._pieces.fewest(text.encode() if isinstance(text, str) else text) or ())


def _library_tokenizer(vocabulary: _Vocabulary) -> LLTokenizer:
    library = llguidance()
    return library.LLTokenizer(library.TokenizerWrapper(vocabulary), slices=library.LLTokenizer.json_slices())
