"""Plan of a measurement: prompt length, tokens to generate, contexts; the same for every bundle of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError

PROMPT_TOKENS, TEXT_TOKENS = 204, 60  # MobileVLM V2 has 144 image tokens; a question in its template takes some 60
FIRST_CONTEXT = 512  # then its doubles


@dataclass(frozen=True)
class Plan:
    """What one repetition runs.

    Attributes:
        prompt_tokens: tokens of the prompt, image tokens included.
        decode_tokens: tokens generated at each context.
        contexts: tokens in the kv cache before the first of them: the prompt, then more; the last fills the cache.
    """

    prompt_tokens: int
    decode_tokens: int
    contexts: tuple[int, ...]

    def described(self, image_tokens: int) -> str:
        """Describes the plan for a bundle whose images take so many tokens."""
        return (
            f"a prompt of {self.prompt_tokens} tokens, {image_tokens} of them image tokens; {self.decode_tokens} "
            "tokens after each context"
        )


def make_plan(bundles: Sequence[Bundle], prompt_tokens: int | None, decode_tokens: int) -> Plan:
    """Makes a plan that all of the bundles can run.

    Args:
        bundles: those to measure.
        prompt_tokens: None for 204, or an image and 60 where that is more; less if the context is smaller.
        decode_tokens: tokens to generate at each context.

    Raises:
        UserError: a number that does not fit an image or the context.
    """
    image = max(bundle.manifest.num_image_tokens for bundle in bundles)
    context = min(bundle.manifest.max_context for bundle in bundles)
    least, most = image + 1, context - decode_tokens
    if decode_tokens < 1 or most < least:
        raise UserError(
            f"--decode-tokens is {decode_tokens}; 1 to {context - least} fit behind an image of {image} tokens in "
            f"a context of {context}"
        )
    tokens = min(max(PROMPT_TOKENS, image + TEXT_TOKENS), most) if prompt_tokens is None else prompt_tokens
    if not least <= tokens <= most:
        raise UserError(
            f"--prompt-tokens is {tokens}; {least} ({image} image tokens and one) to {most} are possible: the context "
            f"holds {context}, of which --decode-tokens takes {decode_tokens}"
        )
    doubles = [FIRST_CONTEXT << n for n in range(context.bit_length())]
    contexts = {tokens, most, *(double for double in doubles if tokens < double < most)}
    return Plan(tokens, decode_tokens, tuple(sorted(contexts)))
