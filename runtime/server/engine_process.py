"""The engine process: opens a bundle, then answers one request after the other, as the server's process asks.

A crash of a backend's library ends this process alone, and a hostile image is decoded here. Its end is noticed by the
pipe: when the server's process dies, reading fails and this one leaves, and the other way round.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np

from mobilevlm.engines.trust import Trust
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import Conversation

from ..answer_options import AnswerOptions
from ..generate import Reply
from ..session import Session
from .answer_request import AnswerRequest, Cancel, Chosen, Damaged, Event, Failed, Finished, NamedLogprob, Opened, Piece
from .image_process import ImageProcess

IDLE_SECONDS = 0.3  # without a request: whoever asks now is a person, who reads and types
DAMAGE_SECONDS = 1.0  # between two looks at whether the bundle has rotted, while nobody asks


def serve_engine(
    connection: Connection,
    engine: str,
    on_cpu: bool,
    check: bool,
    prefix_cache_bytes: int,
    trust: Trust,
    max_pixels: int,
    scrub: bool,
) -> None:
    """Entry point of the process; ends when the other end of the pipe is closed, or the bundle rots.

    Args:
        connection: carries `AnswerRequest` and `Cancel` in, `Opened`, events and `Damaged` out.
        engine: directory of the bundle.
        on_cpu: see `Session`.
        check: see `Session`.
        prefix_cache_bytes: see `Session`.
        trust: see `Session`.
        max_pixels: most pixels of an image.
        scrub: see `Session`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the server ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        session = Session(
            engine, on_cpu=on_cpu, check=check, prefix_cache_bytes=prefix_cache_bytes, trust=trust, scrub=scrub
        )
    except UserError as error:
        connection.send((0, Failed(str(error))))
        return
    with session, ImageProcess(session.config, max_pixels) as images:
        connection.send((0, _opened(session)))
        with suppress(EOFError, BrokenPipeError):  # the server has ended
            while session.damage is None:
                if not connection.poll(DAMAGE_SECONDS):
                    continue
                message = connection.recv()
                if not isinstance(message, Cancel):  # of an answer that has ended already
                    number, request = message
                    talk = _answer(session, images, request, _Pipe(connection, number))
                    if talk and prefix_cache_bytes and not connection.poll(IDLE_SECONDS):
                        talk.keep(session)
            connection.send((0, Damaged(str(session.bundle.damaged(session.damage)))))


@dataclass(frozen=True)
class _Talk:
    """A conversation up to an answer."""

    conversation: Conversation
    images: list[np.ndarray]

    def keep(self, session: Session) -> None:
        """Prefills the answer as the beginning of the next turn's prompt, while a person reads it."""
        with suppress(UserError):  # longer than the context
            session.keep_prefix(self.conversation, self.images)


class _SchemaError(UserError):
    """A JSON schema that cannot be enforced."""


class _Pipe:
    """Pipe to the server, for the events of one request."""

    def __init__(self, connection: Connection, number: int):
        self._connection, self._number = connection, number

    def send(self, event: Event) -> None:
        """Sends an event with the request's number."""
        self._connection.send((self._number, event))

    def is_cancelled(self) -> bool:
        """Returns whether the server has left the request; `EOFError` when it has ended."""
        return self._connection.poll() and isinstance(self._connection.recv(), Cancel)


def _opened(session: Session) -> Opened:
    manifest = session.bundle.manifest
    return Opened(
        max_context=session.max_context,
        has_vision=session.bundle.has_vision,
        num_image_tokens=manifest.num_image_tokens if session.bundle.has_vision else 0,
        fingerprint=manifest.seal,
        precision=dict(manifest.precision),
        target=manifest.target,
    )


def _answer(session: Session, reader: ImageProcess, request: AnswerRequest, pipe: _Pipe) -> _Talk | None:
    """Answers a request; returns what a next turn would begin with."""
    try:
        begin = time.perf_counter()
        images = _images(session, reader, request)
        if not request.choices:
            return _stream(session, images, request, pipe, begin)
        pipe.send(_choose(session, images, request, begin))
    except _SchemaError as error:
        pipe.send(Failed(str(error), "response_format"))
    except UserError as error:
        if session.damage is not None:
            return None  # and the process ends with a word of its own
        pipe.send(Failed(str(error), "choices" if request.choices else "messages"))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:  # the engine's: said as it is, and the next request may do better
        pipe.send(Failed(f"{type(error).__name__}: {error}", is_fault_of_request=False))
    return None


def _stream(session: Session, images: list[np.ndarray], request: AnswerRequest, pipe: _Pipe, begin: float) -> _Talk:
    talk = _Talk(_conversation(session, request), images)
    options = _options(session, request)
    reply, named = session.reply(talk.conversation, talk.images, options, begin, talk.conversation.answer), 0
    pieces = iter(reply)
    for text in pieces:
        logprobs = _named(session, reply, named)
        named += len(logprobs)
        pipe.send(Piece(text, len(reply.tokens), logprobs))
        if pipe.is_cancelled():
            pieces.close()
            break
    assert reply.statistics is not None
    pipe.send(Finished(reply.finish, reply.statistics, _named(session, reply, named)))
    return talk


def _options(session: Session, request: AnswerRequest) -> AnswerOptions:
    try:
        constraint = None if request.schema is None else session.json_constraint(request.schema)
    except UserError as error:
        raise _SchemaError(str(error)) from None
    return AnswerOptions(request.sampling, request.max_new_tokens, request.stop, request.top_logprobs, constraint)


def _choose(session: Session, images: list[np.ndarray], request: AnswerRequest, begin: float) -> Chosen:
    choice = session.choice(_conversation(session, request), images, request.choices, begin)
    return Chosen(choice.choices, choice.probabilities, choice.answer)


def _images(session: Session, reader: ImageProcess, request: AnswerRequest) -> list[np.ndarray]:
    if request.images and not session.bundle.has_vision:
        raise UserError(f"{session.bundle.directory} is a text-only model: it takes no image")
    return [reader.read(image) for image in request.images]


def _conversation(session: Session, request: AnswerRequest) -> Conversation:
    layout = session.conversation(request.conv_mode).template
    if request.system:
        layout = replace(layout, system=f"{layout.system} {request.system}".strip())
    conversation = Conversation(layout)
    for turn in request.turns:
        if turn.is_answer:
            conversation.answer("".join(part for part in turn.content if isinstance(part, str)))
        else:
            conversation.ask_content(turn.content)
    return conversation


def _named(session: Session, reply: Reply, since: int) -> list[NamedLogprob]:
    def text(token: int) -> bytes:
        return session.tokenizer.token_bytes(token)

    return [NamedLogprob(one, text(one.token), [text(token) for token, _ in one.top]) for one in reply.logprobs[since:]]
