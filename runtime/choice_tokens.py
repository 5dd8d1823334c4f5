"""Token ids of the choices of a closed question, as the model would generate them as its answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from mobilevlm.errors import UserError, require
from mobilevlm.text.prompt import Conversation, Message
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.text.utterances import Grid

SHOWN = 40  # characters of a choice that a message repeats


def check_choices(choices: Sequence[str]) -> list[str]:
    """Returns the choices of a closed question without whitespace around them.

    Raises:
        UserError: there are fewer than two, one is empty, no text or has characters that an answer cannot have, or two
            are the same.
    """
    if isinstance(choices, str):
        raise UserError(f"the choices are one text, {_shown(choices)}; give a list of texts")
    is_list = isinstance(choices, Sequence) and not isinstance(choices, bytes | bytearray)
    require(is_list, "choices", choices, "a list of texts")
    texts = list(choices)
    if len(texts) < 2:
        raise UserError(f"a closed question needs two choices or more; there {'is one' if texts else 'are none'}")
    for text in texts:
        _check_text(text)
    stripped = [text.strip() for text in texts]
    seen: set[str] = set()
    for text in stripped:
        if not text:
            raise UserError("a choice is empty: every choice needs a text")
        if text in seen:
            raise UserError(f"the choice {_shown(text)} is given twice")
        seen.add(text)
    return stripped


def choice_tokens(
    tokenizer: Tokenizer,
    conversation: Conversation,
    choices: Sequence[str],
    start_end: bool,
    grids: Sequence[Grid] = (),
) -> list[list[int]]:
    """Returns the token ids of each choice behind a conversation's open question.

    They are what the whole conversation with that answer is tokenised to, behind its prompt, as in training. A choice
    that another one begins with has the end of the answer behind it, so that the two exclude each other.

    Args:
        tokenizer: of the model.
        conversation: ends in a question.
        choices: as `check_choices` returns them.
        start_end: whether `<im_start>` and `<im_end>` stand around images.
        grids: rows and columns of the images' tiles.

    Raises:
        UserError: the tokenizer cannot write a choice, or cannot tell two of them apart.
    """
    prompt = tokenizer.encode(conversation.segments(start_end, grids))
    answers = [_answer(tokenizer, conversation, prompt, choice, start_end, grids) for choice in choices]
    tokens = [ids for ids, _ in answers]
    for number, _ in _beginnings(tokens):
        tokens[number] = answers[number][1]
    for number, other in _beginnings(tokens):
        raise UserError(
            f"the choices {_shown(choices[number])} and {_shown(choices[other])} cannot be told apart: this model's "
            "tokenizer writes them alike"
        )
    return tokens


def check_room(choices: Sequence[str], tokens: Sequence[Sequence[int]], room: int) -> None:
    """Refuses choices that do not fit into the context behind the prompt.

    Args:
        choices: of the question.
        tokens: token ids of each.
        room: number of tokens that can follow the prompt.

    Raises:
        UserError: one of them is longer.
    """
    for choice, ids in zip(choices, tokens, strict=True):
        if len(ids) > room:
            raise UserError(f"the choice {_shown(choice)} has {len(ids)} tokens; behind the prompt {room} fit")


def _answer(
    tokenizer: Tokenizer,
    conversation: Conversation,
    prompt: list[int],
    choice: str,
    start_end: bool,
    grids: Sequence[Grid],
) -> tuple[list[int], list[int]]:
    """Returns a choice's token ids, and the same with the first token of the answer's end."""
    open_segments = conversation.segments(start_end, grids)
    whole_talk = Conversation(conversation.template, [*conversation.messages, Message((choice,))])
    answered = whole_talk.segments(start_end, grids)
    end = answered.index(choice, len(open_segments)) + 1
    bare, whole = tokenizer.encode(answered[:end]), tokenizer.encode(answered)
    if bare[: len(prompt)] != prompt or len(bare) == len(prompt):
        raise UserError(f"the choice {_shown(choice)} is joined to the prompt by this model's tokenizer: word it anew")
    ids = bare[len(prompt) :]
    if tokenizer.unk_id in ids:
        raise UserError(f"the choice {_shown(choice)} has characters that this model's tokenizer does not know")
    return ids, whole[len(prompt) : len(bare) + 1]


def _beginnings(sequences: Sequence[list[int]]) -> list[tuple[int, int]]:
    """Returns the indices of sequences that others begin with or are equal to, each with one of those."""
    # In sorted order, what a sequence is the beginning of follows it at once.
    order = sorted(range(len(sequences)), key=sequences.__getitem__)
    pairs = zip(order, order[1:], strict=False)
    return [(one, other) for one, other in pairs if sequences[other][: len(sequences[one])] == sequences[one]]


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise UserError(f"a choice is {type(text).__name__}, not text")
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            raise UserError(
                f"the choice {_shown(text)} is not UTF-8 text: check the encoding of the terminal or script"
            )
        if category == "Cc":
            raise UserError(f"the choice {_shown(text)} has the control character U+{ord(character):04X}")


def _shown(text: str) -> str:
    """Returns a choice in quotes, cut where it is long, in characters that any terminal and encoding takes."""
    cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return repr(cut)
