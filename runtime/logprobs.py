"""Log-probabilities of an answer's tokens, from the logits before temperature and cuts, as OpenAI's API gives them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer with its log-probability.

    Attributes:
        token: its id.
        logprob: natural logarithm of its probability.
        top: ids and log-probabilities of the likeliest tokens at its place, the likeliest first; none that was ruled
            out, so that a constraint may leave fewer than were asked for.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities of logits (V,), in float64."""
    scores = logits.astype(np.float64)
    scores -= scores.max()
    return scores - np.log(np.exp(scores).sum())


def token_logprob(logits: np.ndarray, token: int, count: int) -> TokenLogprob:
    """Returns the log-probability of a token beside those of the likeliest.

    Args:
        logits: (V,) float32, -inf for a token that was ruled out.
        token: id of the token that was chosen.
        count: how many of the likeliest tokens.
    """
    logprobs = log_softmax(logits)
    least = np.partition(logprobs, -count)[-count] if count else np.inf  # the vocabulary is not sorted for a few tokens
    among = np.flatnonzero((logprobs >= least) & np.isfinite(logprobs))
    largest = among[np.argsort(-logprobs[among], kind="stable")][:count]
    return TokenLogprob(token, float(logprobs[token]), tuple((int(one), float(logprobs[one])) for one in largest))
