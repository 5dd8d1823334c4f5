"""The way of a closed question from its conversation to probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mobilevlm.engines.choice_calibration import ChoiceCalibration
from mobilevlm.errors import require
from mobilevlm.images.tiles import grid_of
from mobilevlm.text.prompt import Conversation

from .arguments import is_number
from .choice_tokens import check_choices, check_room, choice_tokens
from .closed_question import Choice, choose
from .prompt_builder import PromptBuilder


def with_abstain(calibration: ChoiceCalibration, abstain: float | None) -> ChoiceCalibration:
    """Returns a calibration with another threshold.

    Args:
        calibration: the bundle's.
        abstain: probability below which there is no answer; None for the calibration's own.

    Raises:
        UserError: it is no probability.
    """
    allowed = "a probability from 0 to 1, or None (the bundle's)"
    require(abstain is None or is_number(abstain), "the abstain threshold", abstain, allowed)
    return calibration if abstain is None else replace(calibration, abstain=abstain)


def answer_closed(
    prompts: PromptBuilder,
    conversation: Conversation,
    images: Sequence[np.ndarray],
    choices: Sequence[str],
    calibration: ChoiceCalibration,
    start: float,
) -> Choice:
    """Answers a conversation's open question with a probability for each of its choices.

    Args:
        prompts: makes the prompt.
        conversation: ends in a question.
        images: all it shows, oldest first, as `Session.read_image` returns them.
        choices: at least two.
        calibration: temperature and threshold.
        start: `time.perf_counter` when the question was asked.

    Raises:
        UserError: as of `PromptBuilder.prompt`; or the choices are too few, empty, the same, too long, or cannot be
            written.
    """
    texts, decoder = check_choices(choices), prompts.decoder
    prompt = prompts.prompt(conversation, images)
    grids = [grid_of(image) for image in images]
    sequences = choice_tokens(prompts.tokenizer, conversation, texts, prompts.start_end, grids)
    check_room(texts, sequences, decoder.max_context - len(prompt.keys) + 1)  # the last is not put into the kv cache
    return choose(decoder, prompt, choices, sequences, calibration, start)
