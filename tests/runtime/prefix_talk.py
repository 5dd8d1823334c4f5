"""Conversations that take turns in one session, compared with a fresh session's answers to the bit."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image

from mobilevlm.runtime import Session
from mobilevlm.runtime.answer_options import AnswerOptions
from mobilevlm.runtime.generate import Reply
from mobilevlm.runtime.prefix_cache import PREFIX_CACHE_BYTES
from mobilevlm.text.prompt import Conversation, template
from tests.conftest import ROOT

PICTURES = tuple(Image.open(ROOT / "assets" / name).copy() for name in ("shapes.png", "table.jpg"))
# Who asks what, and with which picture where it begins.
TURNS = (
    ("A", "What color is the circle?", 0),
    ("B", "How many shapes are there?", 1),
    ("A", "What shape is red?", None),
    ("C", "Is there a blue square?", 0),  # the picture of A
    ("A", "Which shape is the largest?", None),
    ("B", "What is to the left of the circle?", None),
    ("D", "What can you do?", None),  # no picture
    ("A", "Where is the circle?", None),
    ("C", "How many shapes are there?", None),
)


def opened(engine: Path, size: int = PREFIX_CACHE_BYTES, on_cpu: bool = False) -> Session:
    """A session with a prefix cache."""
    return Session(engine, on_cpu=on_cpu, check=False, prefix_cache_bytes=size)


def said(session: Session, conversation: Conversation, images: list[np.ndarray]) -> Reply:
    """An answer, generated."""
    options = AnswerOptions(max_new_tokens=12, top_logprobs=2)
    reply = session.reply(conversation, images, options, time.perf_counter())
    list(reply)
    return reply


def talk(session: Session, fresh: Session) -> list[Reply]:
    """Holds all conversations in one session, and compares each answer with that to the whole prompt in another."""
    conversations: dict[str, tuple[Conversation, list[np.ndarray]]] = {}
    replies = []
    for who, question, shown in TURNS:
        if who not in conversations:
            conversations[who] = (Conversation(template("v1")), [])
        conversation, images = conversations[who]
        if shown is not None:
            images.append(session.read_image(PICTURES[shown]))
        conversation.ask(question, 1 if shown is not None else 0)
        reply = said(session, conversation, images)
        fresh.decoder.prefixes.clear()
        cold = said(fresh, conversation, images)
        assert cold.statistics.reused_tokens == 0
        assert (reply.tokens, reply.text) == (cold.tokens, cold.text)
        assert reply.logprobs == cold.logprobs  # to the last bit
        conversation.answer(reply.text)
        replies.append(reply)
    return replies


def compare(engine: Path, on_cpu: bool = False) -> None:
    """Asserts that conversations which take turns say what each says alone, and run again only what is new."""
    with opened(engine, on_cpu=on_cpu) as session, opened(engine, on_cpu=on_cpu) as fresh:
        replies = talk(session, fresh)
    cold = [turn[:2] for turn, reply in zip(TURNS, replies, strict=True) if not reply.statistics.reused_tokens]
    assert cold == [TURNS[0][:2], TURNS[1][:2], TURNS[6][:2]]  # a new picture, another one, no picture
    assert [reply.statistics.image_encode_ms > 0 for reply in replies] == [True, True] + [False] * (len(TURNS) - 2)


def about(session: Session, shown: int) -> tuple[Conversation, list[np.ndarray]]:
    """A conversation that begins with a picture."""
    conversation = Conversation(template("v1"))
    conversation.ask("What is it?", 1)
    return conversation, [session.read_image(PICTURES[shown])]
