"""What the server hands to an engine process, and what that sends back: plain data that a pipe can carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mobilevlm.text.tokenizer import Segment

from ..logprobs import TokenLogprob
from ..sampling import Sampling
from ..statistics import Statistics


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    Attributes:
        content: texts, and `IMAGE` for each image.
        is_answer: whether the model said it.
    """

    content: tuple[Segment, ...]
    is_answer: bool


@dataclass(frozen=True)
class AnswerRequest:
    """A question with all before it.

    Attributes:
        turns: the conversation, which ends in a question.
        images: files of the images that its turns show, in their order.
        system: text that follows the template's system prompt; empty for none.
        conv_mode: name of the conversation template; None for the model's own.
        sampling: how tokens are chosen.
        max_new_tokens: upper bound on the answer's length.
        stop: strings that end the answer.
        top_logprobs: see `AnswerOptions`.
        schema: JSON schema of the answer; None for free text.
        choices: answers of a closed question, of which each gets a probability; empty for a free answer.
    """

    turns: Sequence[Turn]
    images: Sequence[bytes] = ()
    system: str = ""
    conv_mode: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 512
    stop: Sequence[str] = ()
    top_logprobs: int | None = None
    schema: dict[str, Any] | None = None
    choices: Sequence[str] = ()


@dataclass(frozen=True)
class Cancel:
    """Tells an engine process to end the answer in progress at its next token."""


@dataclass(frozen=True)
class Opened:
    """First message of an engine process: what it serves.

    Attributes:
        max_context: tokens that the kv cache holds.
        has_vision: whether it takes images.
        num_image_tokens: tokens of an image.
        fingerprint: hash of the bundle's manifest.
        precision: stages with their precisions.
        target: the bundle's target.
    """

    max_context: int
    has_vision: bool
    num_image_tokens: int
    fingerprint: str
    precision: dict[str, str]
    target: str


@dataclass(frozen=True)
class Damaged:
    """Last message of an engine process: a file of its bundle has rotted, and the process ends.

    Attributes:
        message: for the client, with the remedy.
    """

    message: str


@dataclass(frozen=True)
class Piece:
    """A piece of an answer.

    Attributes:
        text: what is certain now.
        tokens: how many tokens the answer has so far.
        logprobs: of the tokens since the last piece, each with its text, where the request asks for them.
    """

    text: str
    tokens: int
    logprobs: Sequence[NamedLogprob] = ()


@dataclass(frozen=True)
class NamedLogprob:
    """A log-probability with the texts of its tokens.

    Attributes:
        of: token ids and log-probabilities.
        text: bytes of the token's text.
        top: bytes of the likeliest tokens' texts, as of `of.top`.
    """

    of: TokenLogprob
    text: bytes
    top: Sequence[bytes]


@dataclass(frozen=True)
class Finished:
    """The end of an answer.

    Attributes:
        finish: see `Reply.finish`.
        statistics: figures.
        rest: log-probabilities of tokens that no piece had, such as a final EOS.
    """

    finish: str
    statistics: Statistics
    rest: Sequence[NamedLogprob] = ()


@dataclass(frozen=True)
class Chosen:
    """The answer to a closed question.

    Attributes:
        choices: as asked.
        probabilities: of each; they sum to 1.
        answer: the likeliest choice; None where the model abstains.
    """

    choices: Sequence[str]
    probabilities: Sequence[float]
    answer: str | None


@dataclass(frozen=True)
class Failed:
    """An answer that was not given.

    Attributes:
        message: for the client.
        param: field of the request that is at fault; None for a fault of the server's.
        is_fault_of_request: whether the same request would fail again.
    """

    message: str
    param: str | None = None
    is_fault_of_request: bool = True


Event = Piece | Finished | Chosen | Failed
