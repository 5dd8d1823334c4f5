"""The next token, compared with transformers' logits processors and with counted draws."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mobilevlm.runtime.sampling import Sampler, Sampling, probabilities

VOCAB = 1000
TOLERANCE = 1e-6

SETTINGS = {
    "temperature": Sampling(temperature=0.7),
    "hot": Sampling(temperature=3.0),
    "cold": Sampling(temperature=0.05, top_p=0.9),
    "top_k": Sampling(temperature=1.0, top_k=50),
    "top_k_one": Sampling(temperature=1.0, top_k=1),
    "top_k_above_vocab": Sampling(temperature=1.0, top_k=VOCAB + 1),
    "top_p": Sampling(temperature=1.0, top_p=0.9),
    "top_p_one": Sampling(temperature=1.0, top_p=1.0),
    "top_p_tiny": Sampling(temperature=1.0, top_p=1e-9),
    "top_p_nearly_one": Sampling(temperature=1.0, top_p=0.9999),
    "min_p": Sampling(temperature=1.0, min_p=0.05),
    "min_p_zero": Sampling(temperature=1.0, min_p=0.0),
    "min_p_one": Sampling(temperature=0.7, min_p=1.0),
    "min_p_after_top_p": Sampling(temperature=1.5, top_p=0.8, min_p=0.2),
    "penalty": Sampling(temperature=1.0, repetition_penalty=1.3),
    "reward": Sampling(temperature=1.0, repetition_penalty=0.8),
    "all": Sampling(temperature=0.8, top_p=0.85, top_k=40, min_p=0.03, repetition_penalty=1.2),
    "all_hot": Sampling(temperature=2.5, top_p=0.97, top_k=700, repetition_penalty=1.1),
}


def transformers_probabilities(
    logits: np.ndarray, previous_ids: list[int], sampling: Sampling
) -> tuple[np.ndarray, np.ndarray]:
    """The same distribution from the processors of `generate`, in its order, and the scores before top-p.

    Top-p runs in float64 there: its float32 sum over the vocabulary is off by more than the tolerance, so that which
    token is the last one kept would be chance.
    """
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    scores = torch.from_numpy(logits.astype(np.float32))[None]
    ids = torch.tensor([[i for i in previous_ids if 0 <= i < logits.size]], dtype=torch.long)
    scores = process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(ids, scores)
    scores = process.TemperatureLogitsWarper(sampling.temperature)(ids, scores)
    if sampling.top_k is not None:
        scores = process.TopKLogitsWarper(sampling.top_k)(ids, scores)
    cut = scores.double()
    if sampling.top_p is not None:
        cut = process.TopPLogitsWarper(sampling.top_p)(ids, cut)
    if sampling.min_p is not None:
        cut = process.MinPLogitsWarper(sampling.min_p)(ids, cut)
    return cut.softmax(-1)[0].numpy(), scores[0].numpy()


def without_order_of_ties(distribution: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Sort by score: which of equal tokens top-p keeps is up to torch.sort, and differs between processors."""
    return distribution[np.lexsort((distribution, scores))]


def random_logits(kind: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(VOCAB) * 3).astype(np.float32)
    if kind == "ties":  # as from an engine that computes in half precision, and worse
        logits = np.round(logits * 2) / 2
    if kind == "masked":
        logits[rng.random(VOCAB) < 0.5] = -np.inf
    if kind == "peaked":
        logits[rng.integers(VOCAB)] = 40.0
    return logits


@pytest.mark.parametrize("kind", ["plain", "ties", "masked", "peaked"])
@pytest.mark.parametrize("name", SETTINGS)
def test_probabilities_match_transformers(name, kind):
    for seed in range(8):
        logits = random_logits(kind, seed)
        previous_ids = np.random.default_rng(100 + seed).integers(0, VOCAB, 60).tolist()
        expected, scores = transformers_probabilities(logits, previous_ids, SETTINGS[name])
        actual = probabilities(logits, [-200, *previous_ids, VOCAB, VOCAB + 5], SETTINGS[name])
        assert actual.sum() == pytest.approx(1, abs=1e-12)
        expected, actual = (without_order_of_ties(each, scores) for each in (expected, actual))
        assert ((actual > 0) == (expected > 0)).all(), "a different set of tokens is kept"
        assert np.abs(actual - expected).max() < TOLERANCE


@pytest.mark.parametrize("top_p", [1e-320, 1e-17, 0.5, 1 - 1e-16])
def test_top_p_keeps_a_token_of_a_flat_distribution(top_p):
    kept = probabilities(np.full(VOCAB, 0.1, np.float32), [], Sampling(temperature=0.3, top_p=top_p)) > 0
    assert kept.sum() == max(1, round(top_p * VOCAB))


def test_top_k_keeps_all_that_tie_with_the_last():
    kept = probabilities(np.array([1, 3, 2, 2, 2, 0], np.float32), [], Sampling(temperature=1.0, top_k=2)) > 0
    assert kept.tolist() == [False, True, True, True, True, False]


def test_top_p_keeps_the_first_of_equal_tokens():
    kept = probabilities(np.array([0, 1, 2, 1, 1], np.float32), [], Sampling(temperature=1.0, top_p=0.6)) > 0
    assert kept.tolist() == [False, True, True, False, False]  # masses .06 .16 .45 .16 .16


def test_penalty_hits_each_seen_token_once_and_the_image_token_never():
    logits = np.array([2.0, -1.0, 1.5, 0.0, 1.9], np.float32)
    penalised = np.array([1.0, -2.0, 1.5, 0.0, 1.9], np.float32)
    expected = np.exp(penalised) / np.exp(penalised).sum()
    actual = probabilities(logits, [0, -200, 1, 0, 0, -1, 5, 99], Sampling(temperature=1.0, repetition_penalty=2.0))
    assert np.abs(actual - expected).max() < TOLERANCE
    assert logits.tolist() == np.array([2.0, -1.0, 1.5, 0.0, 1.9], np.float32).tolist(), "the engine's buffer changed"


def test_greedy_takes_the_top_after_the_penalty_and_ignores_the_cuts():
    logits = np.array([2.0, -1.0, 1.5, 1.5], np.float32)
    assert Sampler(Sampling()).sample(logits, [0]) == 0
    sampler = Sampler(Sampling(repetition_penalty=2.0, top_k=1, top_p=0.1))
    assert sampler.sample(logits, [0]) == 2  # of the two that tie, the first
    assert sampler.sample(logits, [1]) == 0
    assert probabilities(logits, [0], sampler.sampling).tolist() == [0, 0, 1, 0]


def test_half_precision_logits_are_taken():
    assert Sampler(Sampling()).sample(np.array([0, 2, 1], np.float16), []) == 1


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    likely = expected > 0
    return float((((counts - expected) ** 2)[likely] / expected[likely]).sum())


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0, seed=1),
        Sampling(temperature=0.6, top_p=0.9, seed=2),
        Sampling(temperature=1.5, top_k=5, repetition_penalty=1.5, seed=3),
    ],
)
def test_draws_follow_the_probabilities(sampling):
    """Chi-square at 11 degrees of freedom or less: 31.3 is exceeded by chance once in a thousand seeds."""
    logits = (np.random.default_rng(7).standard_normal(12) * 1.5).astype(np.float32)
    logits[4] = -np.inf
    previous_ids = [int(logits.argmax()), 3]
    sampler = Sampler(sampling)
    draws = 20_000
    counts = np.bincount([sampler.sample(logits, previous_ids) for _ in range(draws)], minlength=12)
    expected = probabilities(logits, previous_ids, sampling) * draws
    assert counts[expected == 0].sum() == 0, "a token that is cut was drawn"
    assert chi_square(counts, expected) < 31.3
    slightly_off = probabilities(logits, previous_ids, Sampling(temperature=sampling.temperature * 1.1)) * draws
    assert chi_square(counts, slightly_off) > 31.3, "the test cannot tell distributions apart"


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (1 - 2**-53, 3)])
def test_the_ends_of_the_random_range_never_draw_a_token_that_is_ruled_out(number, token):
    sampler = Sampler(Sampling(temperature=1.0))
    sampler._generator = SimpleNamespace(random=lambda: number)
    assert sampler.sample(np.array([-np.inf, 0.1, -np.inf, 0.2, -np.inf], np.float32), []) == token


def test_a_seed_makes_the_choices_reproducible():
    logits = random_logits("plain", 0)

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.sample(logits, []) for _ in range(30)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)
    assert len(set(draw(5))) > 5, "every draw takes the same number"


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, top_p=0.9)])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1.0, np.nan, np.nan, -np.inf], "NaN in 2 of 4 logits"),
        ([1.0, np.inf, 0.0, 0.0], "inf as top logit"),
        ([-np.inf] * 4, "-inf as top logit"),
    ],
)
def test_numbers_that_overflowed_in_the_engine_are_refused(sampling, bad, words):
    with pytest.raises(RuntimeError, match=words) as error:
        Sampler(sampling).sample(np.array(bad, np.float32), [0])
    assert "--precision" in str(error.value)


@pytest.mark.parametrize("shape", [(1, 8), (), (0,)])
def test_logits_that_are_not_one_row_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(vocab,\)"):
        Sampler(Sampling()).sample(np.zeros(shape, np.float32), [])


@pytest.mark.parametrize(
    ("field", "values", "allowed"),
    [
        ("temperature", [-0.1, 1e-45, 1e300, float("nan"), float("inf"), "0.7", None, True], "0 (greedy)"),
        ("top_p", [0, 0.0, -1, 1.01, float("nan"), "1", True], "0 < top_p <= 1"),
        ("top_k", [0, -1, 2.0, "5", True], "integer >= 1"),
        ("min_p", [-0.1, 1.01, float("nan"), "1", True], "0 <= min_p <= 1"),
        ("repetition_penalty", [0, -1.0, float("inf"), float("nan"), "1", None], "1 is off"),
        ("seed", [-1, 1.5, "1", True], "integer >= 0"),
    ],
)
def test_fields_outside_their_range_are_named(field, values, allowed):
    for value in values:
        with pytest.raises(ValueError) as error:
            Sampling(**{field: value})
        message = str(error.value)
        assert field in message and repr(value) in message and allowed in message


def test_a_token_that_may_be_drawn_is_drawn_in_any_setting():
    """4,000 settings from end to end of their ranges; logits from tiny to such as overflow when they are scaled."""
    for seed in range(4000):
        rng = np.random.default_rng(seed)
        sampling = Sampling(
            temperature=10 ** rng.uniform(-12, 12),
            top_p=(None, 10 ** rng.uniform(-320, 0), rng.uniform(1e-9, 1))[rng.integers(3)],
            top_k=(None, int(rng.integers(1, 50)))[rng.integers(2)],
            min_p=(None, 0, 1, rng.random(), 10 ** rng.uniform(-300, 0))[rng.integers(5)],
            repetition_penalty=(1.0, 10 ** rng.uniform(-12, 12))[rng.integers(2)],
            seed=seed,
        )
        scale = np.float32(10 ** rng.uniform(-6, 37))
        logits = rng.standard_normal(rng.choice([1, 5, 100, 500])).astype(np.float32) * scale
        if seed % 3 == 0:
            logits = np.round(logits)
        if seed % 5 == 0:
            logits[1:][rng.random(len(logits) - 1) < 0.5] = -np.inf
        expected = probabilities(logits, [0, 2], sampling)
        assert expected.sum() == pytest.approx(1)
        assert expected[Sampler(sampling).sample(logits, [0, 2])] > 0, sampling


def test_extreme_settings_do_not_overflow():
    logits = np.array([65504, -65504, 65000, 0], np.float32)
    for temperature in (1e-12, 1e12):
        for penalty in (1e-12, 1e12):
            sampling = Sampling(temperature=temperature, repetition_penalty=penalty, top_k=3, top_p=0.9)
            actual = probabilities(logits, [0, 1], sampling)
            assert np.isfinite(actual).all() and actual.sum() == pytest.approx(1)
