"""Choosing the next token from the logits, as transformers' `generate` does, but without PyTorch.

Order and meaning are those of its processors: repetition penalty, temperature, top-k, top-p, min-p. Greedy decoding
(temperature 0) applies the penalty and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.commands import command
from mobilevlm.errors import UserError, require

from .arguments import is_integer, is_number
from .top_logits import Logits, TopLogits

# Wider than anything useful, and narrow enough that no logit of an engine overflows float32 when scaled by both.
_SCALE_MIN, _SCALE_MAX = 1e-12, 1e12
# Most probability mass of the tokens whose logits were not returned: no draw of a session lands there.
NEGLIGIBLE = 1e-12


class LogitsError(UserError, RuntimeError):
    """Logits that nothing can be sampled from: weights are damaged, or overflow in their precision."""


@dataclass(frozen=True)
class Sampling:
    """Options of choosing the next token.

    Attributes:
        temperature: 0 takes the most likely token (greedy); otherwise the logits are divided by it, 1e-12 to 1e12.
        top_p: keep the most likely tokens until their mass reaches this, 0 < top_p <= 1; None keeps all.
        top_k: keep this many of the most likely tokens, and all that tie with the last; None keeps all. A caller that
            wants the result of a bare `generate(do_sample=True)` passes its default, 50.
        min_p: keep the tokens that are at least this many times as likely as the most likely, 0 <= min_p <= 1; None
            keeps all.
        repetition_penalty: above 1 makes tokens seen before less likely, 1 leaves them alone, 1e-12 to 1e12.
        seed: makes the choices reproducible, >= 0; None takes a fresh one.

    Raises:
        UserError: a field is outside its range.
    """

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        scale = f"a number from {_SCALE_MIN:g} to {_SCALE_MAX:g}"
        temperature_ok = is_number(self.temperature) and (self.temperature == 0 or _is_scale(self.temperature))
        top_p_ok = self.top_p is None or (is_number(self.top_p) and 0 < float(self.top_p) <= 1)
        top_k_ok = self.top_k is None or (is_integer(self.top_k) and self.top_k >= 1)
        min_p_ok = self.min_p is None or (is_number(self.min_p) and 0 <= self.min_p <= 1)
        penalty_ok = is_number(self.repetition_penalty) and _is_scale(self.repetition_penalty)
        seed_ok = self.seed is None or (is_integer(self.seed) and self.seed >= 0)
        require(temperature_ok, "temperature", self.temperature, f"0 (greedy) or {scale}")
        require(top_p_ok, "top_p", self.top_p, "a number with 0 < top_p <= 1, or None (no cut)")
        require(top_k_ok, "top_k", self.top_k, "an integer >= 1, or None (no cut)")
        require(min_p_ok, "min_p", self.min_p, "a number with 0 <= min_p <= 1, or None (no cut)")
        require(penalty_ok, "repetition_penalty", self.repetition_penalty, f"{scale}; 1 is off")
        require(seed_ok, "seed", self.seed, "an integer >= 0, or None (a fresh seed)")
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):  # a fraction, or one of numpy's numbers
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))


class Sampler:
    """Draws one token after another; a class because the random generator moves on with every draw."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._generator = np.random.default_rng(sampling.seed)

    def sample(self, logits: Logits, previous_ids: Sequence[int]) -> int:
        """Chooses the next token.

        Args:
            logits: (V,) float32; -inf rules a token out. Not modified. Or the largest of them.
            previous_ids: prompt and generated ids, for the repetition penalty. Ids outside the vocabulary, such as
                the image token -200, are ignored.

        Returns:
            The token's id. Greedy: of equal logits, the first.

        Raises:
            ValueError: `logits` is not one row.
            RuntimeError: `logits` holds NaN or +inf, or rules out every token.
        """
        if isinstance(logits, TopLogits):
            if top_suffice(logits, self.sampling):
                tokens, among = logits.in_order()
                return int(tokens[self.sample(among, ())])
            logits = logits.fetch_all()
        scores = _penalised(_checked(logits), previous_ids, self.sampling.repetition_penalty)
        if self.sampling.temperature == 0:
            return int(scores.argmax())
        ids, weights = _candidates(scores, self.sampling)
        cumulative = weights.cumsum()
        # side="right" never lands on a token of weight 0: its cumulative value equals that of the token before.
        chosen = np.searchsorted(cumulative, self._generator.random() * cumulative[-1], side="right")
        return int(ids[chosen])


def top_suffice(top: TopLogits, sampling: Sampling) -> bool:
    """Returns whether a choice among the largest logits is the choice among all.

    It is where none of the others can be chosen: some that tie with the last of the largest may be among the others. A
    repetition penalty, or a distribution so flat that the others count, needs all.

    Args:
        top: the largest logits.
        sampling: how the token is chosen.
    """
    if sampling.repetition_penalty != 1 or not np.isfinite(top.logits).all():
        return False
    others = top.vocabulary - len(top.tokens)
    if others == 0:
        return True
    if sampling.temperature == 0:
        return bool(top.logits[0] > top.logits[-1])
    scores = _tempered(top.logits, sampling.temperature)
    if sampling.top_k is not None and sampling.top_k < len(scores):
        return bool(scores[sampling.top_k - 1] > scores[-1])
    weights = np.exp(scores - scores[0], dtype=np.float64)
    # Top-p depends on the mass of all tokens, min-p on the most likely alone.
    if sampling.min_p is not None and sampling.top_p in (None, 1) and weights[-1] < sampling.min_p:
        return True
    return bool(others * weights[-1] < NEGLIGIBLE * weights.sum())


def probabilities(logits: np.ndarray, previous_ids: Sequence[int], sampling: Sampling) -> np.ndarray:
    """Returns the distribution that `Sampler.sample` draws from.

    Args:
        logits: (V,) float32, as of `Sampler.sample`, like the errors.
        previous_ids: prompt and generated ids, for the repetition penalty.
        sampling: how tokens are chosen.

    Returns:
        (V,) float64, sums to 1, 0 for a token that is cut. Greedy: 1 for the token taken.
    """
    scores = _penalised(_checked(logits), previous_ids, sampling.repetition_penalty)
    result = np.zeros(scores.shape, np.float64)
    if sampling.temperature == 0:
        result[scores.argmax()] = 1.0
    else:
        ids, weights = _candidates(scores, sampling)
        result[ids] = weights / weights.sum()
    return result


def _checked(logits: np.ndarray) -> np.ndarray:
    """Return `logits` as float32 (vocab,), or raise as `Sampler.sample` says."""
    logits = np.asarray(logits, dtype=np.float32)
    if logits.ndim != 1 or not logits.size:
        raise ValueError(f"logits have the shape {logits.shape}, expected (vocab,): pass one row, such as logits[0].")
    peak = logits.max()  # NaN wins every comparison of max, so that one pass finds all three faults
    if math.isfinite(peak):
        return logits
    fault = f"NaN in {np.isnan(logits).sum()} of {logits.size} logits" if math.isnan(peak) else f"{peak} as top logit"
    raise LogitsError(
        f"The engine produced {fault}. The decoder's numbers overflow in its precision: "
        f"build the bundle again with a wider --precision ({command('export/build_engines.py')})."
    )


def _penalised(logits: np.ndarray, previous_ids: Sequence[int], penalty: float) -> np.ndarray:
    """Return (vocab,) logits in which every id seen before is pushed away from being chosen, once each."""
    if penalty == 1:
        return logits
    ids = np.asarray(previous_ids, dtype=np.int64)
    ids = ids[(ids >= 0) & (ids < logits.size)]
    seen = logits[ids]
    scores = logits.copy()
    with np.errstate(over="ignore"):
        moved = np.where(seen < 0, seen * penalty, seen / penalty)
    largest = np.finfo(np.float32).max  # what overflows stays a number; what is ruled out stays so
    scores[ids] = np.where(np.isinf(seen), seen, np.clip(moved, -largest, largest))
    return scores


def _tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Return (vocab,) scores divided by the temperature in float32, as transformers does.

    Where that overflows, the largest is subtracted before it is divided, so that the result is never inf - inf.
    """
    with np.errstate(over="ignore"):
        result = scores / temperature
        return result if np.isfinite(result.max()) else (scores - scores.max()) / temperature


def _candidates(scores: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids that pass top-k and top-p, and their float64 weights (not normalised, the largest is 1)."""
    scores = _tempered(scores, sampling.temperature)
    ids = np.arange(scores.size)
    if sampling.top_k is not None and sampling.top_k < scores.size:
        cut = scores.size - sampling.top_k
        ids = np.flatnonzero(scores >= np.partition(scores, cut)[cut])
        scores = scores[ids]
    with np.errstate(over="ignore"):
        weights = np.exp(scores - scores.max(), dtype=np.float64)
    if sampling.top_p is not None and sampling.top_p < 1:
        kept = _nucleus(weights, sampling.top_p)
        ids, weights = ids[kept], weights[kept]
    if sampling.min_p is not None:
        kept = weights >= sampling.min_p  # the largest is 1
        ids, weights = ids[kept], weights[kept]
    return ids, weights


def _nucleus(weights: np.ndarray, top_p: float) -> np.ndarray:
    """Return the indices of the heaviest weights, heaviest first, each with less than `top_p` of the mass before it."""
    total = weights.sum()
    # n weights below (1 - top_p) / n of the mass are together less than the tail: never part of the nucleus. That
    # leaves little to sort. The heaviest, 1.0, always stays: total <= n.
    heavy = np.flatnonzero(weights >= (1 - top_p) * total / weights.size)
    # Of equal weights the first goes first, as in greedy decoding (transformers leaves it to torch.sort: no order).
    order = heavy[np.argsort(-weights[heavy], kind="stable")]
    mass_before = np.cumsum(weights[order]) - weights[order]
    return order[mass_before < top_p * total]


def _is_scale(value: float) -> bool:
    return _SCALE_MIN <= float(value) <= _SCALE_MAX
