"""NaN and infinity in what the stages compute: found where they arise, named, and never sampled from.

An int8 stage would make ordinary numbers of them, and an answer that looks like one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mobilevlm.commands import command, localized
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import DECODER, EMBED_TOKENS_FILE, VISION
from mobilevlm.errors import UserError

from .embeddings import EmbeddingBlock
from .top_logits import Logits, TopLogits


class NotFiniteError(UserError):
    """A stage computed NaN or infinity; the message names stage, place and remedy."""


def require_finite_image(embeds: EmbeddingBlock, bundle: Bundle) -> None:
    """Refuses image embeddings that are not finite; those on a device are looked at where the logits are not finite.

    Args:
        embeds: (N, D) float32.
        bundle: whose vision stage made them.

    Raises:
        NotFiniteError: they are not.
    """
    values = np.asarray(embeds)
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values).all(1))
        raise _error(VISION, f"{bad} of {len(values)} tokens of an image's image_embeds", bundle)


def require_finite_tokens(rows: np.ndarray, token_ids: Sequence[int], bundle: Bundle) -> None:
    """Refuses embeddings of text that are not finite.

    Args:
        rows: (S, D) float32.
        token_ids: S of them.
        bundle: whose table they are from.

    Raises:
        NotFiniteError: they are not.
    """
    if not np.isfinite(rows).all():
        token = next(token for token, row in zip(token_ids, rows, strict=True) if not np.isfinite(row).all())
        raise _error(EMBED_TOKENS_FILE, f"the embedding of token {token}", bundle)


def has_finite_top(logits: Logits) -> bool:
    """Whether a token can be sampled: the largest logit is a finite number, and no logit is NaN."""
    if isinstance(logits, TopLogits):
        return math.isfinite(logits.logits.max())
    return math.isfinite(logits.max())  # NaN wins every comparison of max


def not_finite(
    logits: Logits, images: Sequence[EmbeddingBlock], count: int, prompt_tokens: int, bundle: Bundle
) -> NotFiniteError:
    """Returns the error of logits that cannot be sampled from, or of image embeddings that made them so.

    Args:
        logits: as they are.
        images: embeddings (N, D) float32 of the prompt's images.
        count: tokens of prompt and answer that the logits follow.
        prompt_tokens: tokens of the prompt.
        bundle: whose stages they are.
    """
    values = np.asarray(logits)
    try:
        for image in images:
            require_finite_image(image, bundle)
    except NotFiniteError as error:
        return error
    answered = count - prompt_tokens
    place = f"token {answered} of the answer" if answered > 0 else f"the first {count} tokens of the prompt"
    nans, infinite = np.count_nonzero(np.isnan(values)), np.count_nonzero(values == np.inf)
    what = "NaN" if nans else "infinity" if infinite else "minus infinity"
    return _error(DECODER, f"{nans or infinite or values.size} of {values.size} logits behind {place}", bundle, what)


def _error(stage: str, place: str, bundle: Bundle, what: str = "NaN or infinity") -> NotFiniteError:
    return NotFiniteError(
        f"stage {stage} of {bundle.directory} computed {what}: {place}. Numbers overflow in its precision, or its "
        f"files are damaged: {command('runtime/verify.py', '--engine', bundle.directory)} tells which; then copy the "
        f"bundle again, or build it with a wider --precision: {localized(bundle.manifest.command)}"
    )
