"""A choice among the tokens that a device has sorted out is the choice among all, or all are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from mobilevlm.runtime.sampling import Sampler, Sampling, top_suffice
from mobilevlm.runtime.top_logits import TopLogits

VOCABULARY, COUNT = 2000, 64
# How the next token is chosen, and whether the largest logits are enough where some stand out, and where all are alike.
CASES = {
    "greedy": (Sampling(), True, True),
    "top_k": (Sampling(temperature=1.0, top_k=40), True, True),
    "top_k and top_p": (Sampling(temperature=0.7, top_k=63, top_p=0.9), True, True),
    "as many as there are": (Sampling(temperature=1.0, top_k=COUNT), False, False),
    "cold": (Sampling(temperature=0.2), True, False),
    "cold top_p": (Sampling(temperature=0.2, top_p=0.9), True, False),
    "min_p": (Sampling(temperature=1.0, min_p=0.01), True, False),
    "min_p after top_p": (Sampling(temperature=0.2, min_p=0.01, top_p=0.9), True, False),
    "all count": (Sampling(temperature=2.0, top_p=0.9), False, False),
    "penalty": (Sampling(repetition_penalty=1.2), False, False),
}


def sorted_out(logits: np.ndarray) -> tuple[TopLogits, list]:
    """As the device does it, and a list that grows when all logits are asked for."""
    tokens, asked = np.argsort(-logits, kind="stable")[:COUNT], []
    return TopLogits(tokens, logits[tokens], len(logits), lambda: asked.append(1) or logits), asked


def drawn(kind: str, seed: int) -> np.ndarray:
    """Some that stand out by far, as a model's do, or all alike."""
    logits = np.random.default_rng(seed).normal(0, 0.5, VOCABULARY)
    if kind == "sharp":
        logits[np.random.default_rng(seed + 1).permutation(VOCABULARY)[:30]] += np.linspace(9, 14, 30)
    return logits.astype(np.float32)


@pytest.mark.parametrize("kind", ("sharp", "flat"))
@pytest.mark.parametrize("case", CASES)
def test_the_same_tokens_are_drawn(case, kind):
    sampling, *enough = CASES[case]
    seeded = Sampling(**{**vars(sampling), "seed": 7})
    some, every, asked = Sampler(seeded), Sampler(seeded), []
    for seed in range(60):
        logits = drawn(kind, seed)
        top, asked = sorted_out(logits)
        assert some.sample(top, [3, 5]) == every.sample(logits, [3, 5])
        assert bool(asked) is not enough[kind == "flat"]


@pytest.mark.parametrize("ties, enough", ((COUNT - 1, True), (COUNT, False), (COUNT + 40, False)))
def test_of_equal_ones_the_first_is_taken_wherever_it_is(ties, enough):
    """More that tie than are sorted out: which of them are here is the device's own choice."""
    logits = np.zeros(VOCABULARY, np.float32)
    logits[100 : 100 + ties] = 5
    tokens = VOCABULARY - 1 - np.argsort(-logits[::-1], kind="stable")[:COUNT]  # the last of equal ones first
    top = TopLogits(tokens, logits[tokens], VOCABULARY, lambda: logits)
    assert top_suffice(top, Sampling()) is enough
    assert Sampler(Sampling()).sample(top, []) == 100


def test_ties_with_the_last_of_top_k_need_all():
    logits = np.zeros(VOCABULARY, np.float32)
    logits[:10] = 5
    assert top_suffice(sorted_out(logits)[0], Sampling(temperature=1.0, top_k=10))
    assert not top_suffice(sorted_out(logits)[0], Sampling(temperature=1.0, top_k=11))


@pytest.mark.parametrize("wrong", (np.nan, np.inf))
def test_what_is_no_number_is_said_of_all(wrong):
    logits = drawn("sharp", 0)
    logits[9] = wrong
    tokens = np.arange(COUNT)
    with pytest.raises(RuntimeError, match="overflow"):
        Sampler(Sampling()).sample(TopLogits(tokens, logits[tokens], VOCABULARY, lambda: logits), [])


def test_a_small_vocabulary_is_all_there_is():
    logits = drawn("flat", 2)[:COUNT]
    top, asked = sorted_out(logits)
    sampling = Sampling(temperature=2.0, seed=1)
    assert [Sampler(sampling).sample(top, [])] == [Sampler(sampling).sample(logits, [])] and not asked
