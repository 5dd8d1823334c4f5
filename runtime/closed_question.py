"""Closed questions: a probability for each of the choices that are offered, from one prefill.

The prompt is prefilled once. Choices are scored behind it as a tree of tokens: what several choices begin with is run
once, and the kv cache is wound back to where they part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.choice_calibration import ChoiceCalibration
from mobilevlm.engines.machine import peak_rss_bytes

from .decoder import Decoder
from .logprobs import log_softmax
from .prompt import Prompt


@dataclass(frozen=True)
class ChoiceStatistics:
    """Figures of one closed question.

    Attributes:
        image_encode_ms: vision stage, all images; 0 when they were in the cache or there were none.
        prefill_ms: the decoder on the prompt.
        choices_ms: the decoder on the choices' tokens, and their scores.
        total_ms: from the question to the probabilities, reading images included.
        prompt_tokens: tokens of the prompt, those of images included.
        reused_tokens: tokens of the prompt that were in the kv cache already.
        choice_tokens: tokens of choices that the decoder ran; none where each choice is one token.
        peak_rss_mib: largest resident memory of this process so far.
    """

    image_encode_ms: float
    prefill_ms: float
    choices_ms: float
    total_ms: float
    prompt_tokens: int
    reused_tokens: int
    choice_tokens: int
    peak_rss_mib: float

    def __str__(self) -> str:
        reused = f", {self.reused_tokens} of them reused" if self.reused_tokens else ""
        return (
            f"image encode {self.image_encode_ms:.0f} ms · prefill {self.prefill_ms:.0f} ms ({self.prompt_tokens} "
            f"tokens{reused}) · choices {self.choices_ms:.0f} ms ({self.choice_tokens} tokens) · in all "
            f"{self.total_ms:.0f} ms · peak RSS {self.peak_rss_mib:.0f} MiB"
        )


@dataclass(frozen=True)
class Choice:
    """The answer to a closed question.

    Attributes:
        choices: as they were offered.
        probabilities: one for each choice; their sum is 1.
        answer: the likeliest choice, of equal ones the first; None where its probability is below the threshold.
        logprobs: natural logarithm of each choice's probability behind the prompt, the sum over its tokens.
        tokens: number of tokens of each choice, which its score `logprob / tokens` is the mean over.
        statistics: figures.
    """

    choices: tuple[str, ...]
    probabilities: tuple[float, ...]
    answer: str | None
    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    statistics: ChoiceStatistics


def choose(
    decoder: Decoder,
    prompt: Prompt,
    choices: Sequence[str],
    sequences: Sequence[Sequence[int]],
    calibration: ChoiceCalibration,
    start: float,
) -> Choice:
    """Scores choices behind a prompt.

    Args:
        decoder: runs prompt and tokens.
        prompt: what is answered.
        choices: at least two, to be handed back.
        sequences: token ids of each choice, none the beginning of another (`choice_tokens.choice_tokens`).
        calibration: temperature and threshold.
        start: `time.perf_counter` when the question was asked.
    """
    with decoder.lock:
        begin = time.perf_counter()
        logits, reused = decoder.run_prompt(prompt)
        prefilled = time.perf_counter()
        logprobs, run = _logprobs(decoder, prompt, log_softmax(np.asarray(logits)), sequences)
    lengths = [len(sequence) for sequence in sequences]
    probabilities = probabilities_of(logprobs / lengths, calibration.temperature)
    end = time.perf_counter()
    best = int(probabilities.argmax())
    return Choice(
        choices=tuple(choices),
        probabilities=tuple(probabilities.tolist()),
        answer=choices[best] if probabilities[best] >= calibration.abstain else None,
        logprobs=tuple(logprobs.tolist()),
        tokens=tuple(lengths),
        statistics=ChoiceStatistics(
            image_encode_ms=prompt.image_encode_ms,
            prefill_ms=(prefilled - begin) * 1e3 - prompt.image_encode_ms,
            choices_ms=(end - prefilled) * 1e3,
            total_ms=(end - start) * 1e3,
            prompt_tokens=len(prompt.keys),
            reused_tokens=reused,
            choice_tokens=run,
            peak_rss_mib=peak_rss_bytes() / 2**20,
        ),
    )


def probabilities_of(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Returns the probabilities of choices, (C,) float64.

    Args:
        scores: (C,) float64, mean log-probability of each choice's tokens.
        temperature: divides the scores, > 0.
    """
    return np.exp(log_softmax(scores / temperature))


def _logprobs(
    decoder: Decoder, prompt: Prompt, first: np.ndarray, sequences: Sequence[Sequence[int]]
) -> tuple[np.ndarray, int]:
    """Computes the log-probability of each token sequence, depth first through the tree that they form.

    Args:
        decoder: its kv cache holds the prompt.
        prompt: what the sequences follow.
        first: (V,) float64, log-probabilities of the token behind the prompt.
        sequences: none is the beginning of another.

    Returns:
        (C,) float64, and how many tokens the decoder ran.
    """
    found, run = np.zeros(len(sequences)), 0
    # Where the tree is still to be looked at: sequences that share their first `depth` tokens.
    open_nodes = [(0, list(range(len(sequences))))]
    while open_nodes:
        depth, members = open_nodes.pop()
        logprobs = first
        if depth:
            # Depth first: what stands before this node in the cache is what it shares with the one before.
            decoder.wind_back(prompt, depth - 1)
            token = sequences[members[0]][depth - 1]
            logprobs, run = log_softmax(np.asarray(decoder.run_token(prompt, token))), run + 1
        children: dict[int, list[int]] = {}
        for member in members:
            token = sequences[member][depth]
            found[member] += logprobs[token]
            if len(sequences[member]) > depth + 1:
                children.setdefault(token, []).append(member)
        open_nodes += [(depth + 1, child) for child in children.values()]
    return found, run
