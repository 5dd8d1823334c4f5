"""What kept prefixes save: times to the first token with and without a prefix cache, in turns, and a file's."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mobilevlm.engines.tables import markdown_table
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import Conversation

from ..answer_options import AnswerOptions
from ..prefix_cache import PREFIX_CACHE_BYTES
from ..session import Session
from .rounds import rounds

FIRST, SHARED, TURN, KEPT = (
    "first question about an image",
    "another question about it, after another conversation",
    "next turn, after another conversation",
    "the same, its last answer kept in between",
)
SITUATIONS = (FIRST, SHARED, TURN, KEPT)
QUESTIONS = ("What is in the picture?", "How many people are there?", "Where was it taken?")
ANSWER = "The picture shows a small table with a white cup, two books and a lamp that is switched on."


@dataclass(frozen=True)
class PrefixFigures:
    """Milliseconds to the first token by situation, one a round, and figures of a saved prefix.

    Attributes:
        without: without a prefix cache.
        kept: with one.
        prompt_tokens: tokens of the prompt by situation.
        saved_tokens: tokens of the saved prefix: system prompt and image.
        saved_bytes: size of its file.
        save_ms: milliseconds of each writing, kept rows to the disk.
        load_ms: milliseconds of each reading, checks included.
    """

    without: dict[str, list[float]]
    kept: dict[str, list[float]]
    prompt_tokens: dict[str, int]
    saved_tokens: int
    saved_bytes: int
    save_ms: list[float]
    load_ms: list[float]

    def as_json(self) -> dict[str, Any]:
        """Returns the figures by name, for the line of JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = []
        for name in SITUATIONS:
            pairs = list(zip(self.without[name], self.kept[name], strict=True))
            ratios = [one / other for one, other in pairs]
            middle = [f"{median(values):.0f}" for values in zip(*pairs, strict=True)]
            spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            rows.append([name, str(self.prompt_tokens[name]), *middle, spread])
        head = ["TTFT, ms, median", "prompt tokens", "without", "with", "ratio of each round, median (range)"]
        return (
            f"{markdown_table(head, rows)}\n\n"
            f"saved prefix: {self.saved_tokens} tokens, {self.saved_bytes / 1e6:.1f} MB, "
            f"saved in {median(self.save_ms):.0f} ms, loaded in {median(self.load_ms):.0f} ms"
        )


class Turns:
    """Two conversations about an image each, which take turns in one session.

    Args:
        session: with a prefix cache, which is taken away for the turns without.
    """

    def __init__(self, session: Session):
        size, draws = session.config.tower.image_size, np.random.default_rng(0)
        self._images = [draws.standard_normal((1, 3, size, size), np.float32) for _ in range(2)]
        self._session, self._prefixes = session, session.decoder.prefixes
        self.prompt_tokens: dict[str, int] = {}

    def run(self, with_cache: bool) -> dict[str, float]:
        """Runs each situation once, from empty caches: milliseconds to the first token."""
        decoder, prefixes = self._session.decoder, self._prefixes
        if prefixes is not None:
            prefixes.clear()
        decoder.prefixes = prefixes if with_cache else None
        decoder.forget()
        times = {FIRST: self._ask(FIRST, 0, QUESTIONS[:1])}
        self._ask("", 1, QUESTIONS[:1])
        times[SHARED] = self._ask(SHARED, 0, QUESTIONS[1:2])
        self._ask("", 1, QUESTIONS[1:2])
        times[TURN] = self._ask(TURN, 0, QUESTIONS[:2])
        if with_cache:
            self._session.keep_prefix(self._conversation((*QUESTIONS[:2], "")), self._images[:1])
        self._ask("", 1, QUESTIONS[:1])
        times[KEPT] = self._ask(KEPT, 0, QUESTIONS)
        decoder.prefixes = prefixes
        return times

    def save_and_load(self, path: Path) -> tuple[int, float, float]:
        """Saves system prompt and image, and loads them into an empty cache: tokens, and milliseconds of both."""
        session, conversation = self._session, self._conversation(QUESTIONS[:1])
        session.keep_prefix(conversation, self._images[:1])
        begin = time.perf_counter()
        tokens = session.save_prefix(path, conversation, self._images[:1])
        saved = time.perf_counter()
        if self._prefixes is not None:
            self._prefixes.clear()
        cleared = time.perf_counter()
        session.load_prefix(path)
        return tokens, (saved - begin) * 1e3, (time.perf_counter() - cleared) * 1e3

    def _ask(self, situation: str, image: int, questions: tuple[str, ...]) -> float:
        reply = self._session.reply(
            self._conversation(questions), [self._images[image]], AnswerOptions(max_new_tokens=1), time.perf_counter()
        )
        list(reply)
        if reply.statistics is None:
            raise RuntimeError("the reply has no statistics")
        self.prompt_tokens[situation] = reply.statistics.prompt_tokens
        return reply.statistics.ttft_ms

    def _conversation(self, questions: tuple[str, ...]) -> Conversation:
        """Makes a conversation whose questions but the last are answered."""
        conversation = self._session.conversation()
        for number, question in enumerate(questions):
            if number:
                conversation.answer(ANSWER)
            conversation.ask(question, 0 if number else 1)
        return conversation


def measure_prefixes(engine: Path, repeats: int, tell: Callable[[str], object]) -> PrefixFigures:
    """Measures a bundle in rounds, with and without a prefix cache in turns.

    Args:
        engine: the bundle's directory.
        repeats: number of rounds that count.
        tell: receives a line about what is being waited for.

    Raises:
        UserError: a text-only bundle, or one that cannot be opened.
    """
    tell("opening the bundle")
    with Session(engine, check=False, prefix_cache_bytes=PREFIX_CACHE_BYTES) as session:
        if not session.bundle.has_vision:
            raise UserError(f"{engine} is a text-only model: --prefixes asks about images")
        turns = Turns(session)
        tell("warming up")
        turns.run(with_cache=True)
        without: dict[str, list[float]] = {name: [] for name in SITUATIONS}
        kept: dict[str, list[float]] = {name: [] for name in SITUATIONS}
        files: list[tuple[int, float, float]] = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "saved.prefix"
            for number, order in rounds(2, repeats):
                for turn in order:
                    tell(f"round {number} of {repeats}: {'with' if turn else 'without'} a prefix cache")
                    for name, milliseconds in turns.run(with_cache=bool(turn)).items():
                        (kept if turn else without)[name].append(milliseconds)
                files.append(turns.save_and_load(path))
            size = path.stat().st_size
    tokens, save_ms, load_ms = zip(*files, strict=True)
    return PrefixFigures(without, kept, turns.prompt_tokens, tokens[0], size, list(save_ms), list(load_ms))
