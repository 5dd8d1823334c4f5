"""What is measured: how long a prompt, how many tokens, after how much context. Every bundle of a run gets the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError

PROMPT_ROWS, TEXT_ROWS = 204, 60  # a picture of MobileVLM V2 is 144 rows, a question about it in its template some 60
FIRST_CONTEXT = 512  # and its doubles


@dataclass(frozen=True)
class Plan:
    """One repetition.

    Attributes:
        prompt_tokens: rows of the prompt, the picture's among them.
        decode_tokens: tokens generated at each context.
        contexts: rows in the kv cache before the first of them: the prompt, then more; the last fills the cache.
    """

    prompt_tokens: int
    decode_tokens: int
    contexts: tuple[int, ...]


def make_plan(bundles: Sequence[Bundle], prompt_tokens: int | None, decode_tokens: int) -> Plan:
    """What all of the bundles can do.

    Args:
        bundles: those to measure.
        prompt_tokens: None for 204, or a picture and 60 where that is more; less if the context is smaller.
        decode_tokens: tokens at each context.

    Raises:
        UserError: a number that does not fit a picture or the context.
    """
    picture = max(bundle.manifest.num_image_tokens for bundle in bundles)
    context = min(bundle.manifest.max_context for bundle in bundles)
    least, most = picture + 1, context - decode_tokens
    if decode_tokens < 1 or most < least:
        raise UserError(
            f"--decode-tokens is {decode_tokens}; 1 to {context - least} fit behind a picture of {picture} rows in a "
            f"context of {context}"
        )
    rows = min(max(PROMPT_ROWS, picture + TEXT_ROWS), most) if prompt_tokens is None else prompt_tokens
    if not least <= rows <= most:
        raise UserError(
            f"--prompt-tokens is {rows}; {least} (a picture's {picture} and one) to {most} are possible: the context "
            f"holds {context}, of which --decode-tokens takes {decode_tokens}"
        )
    doubles = [FIRST_CONTEXT << n for n in range(context.bit_length())]
    contexts = {rows, most, *(double for double in doubles if rows < double < most)}
    return Plan(rows, decode_tokens, tuple(sorted(contexts)))
