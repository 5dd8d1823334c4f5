"""Answer files: a line for each question in the original's form, written as it comes, safe against kill -9.

A question's line is there or it is not: a run that was killed goes on after the last whole line.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from uuid import NAMESPACE_OID, uuid5

from mobilevlm.errors import UserError

from .task import Answer, Question

WHOLE = "answers.jsonl"
OWN_FIELDS = ("question_id", "prompt", "text", "answer_id", "model_id", "metadata")


def shard_of(questions: Sequence[Question], shard: int, num_shards: int) -> Sequence[Question]:
    """The questions of shard `shard` (from 1): contiguous parts of ceil(n / shards), as the original cuts them."""
    size = math.ceil(len(questions) / num_shards)
    return questions[(shard - 1) * size : shard * size]


def shard_file(directory: Path, shard: int, num_shards: int) -> Path:
    """Where a shard's answers go."""
    return directory / (WHOLE if num_shards == 1 else f"answers-{shard}-of-{num_shards}.jsonl")


class AnswerFile:
    """The answers to some questions in their order, so far.

    Attributes:
        done: how many questions have their line.
    """

    def __init__(self, path: Path, questions: Sequence[Question], model_id: str):
        """Open or begin a file, for this process alone; a last line that was cut off is removed.

        Raises:
            UserError: another process writes it, or it answers other questions.
        """
        self.path, self.questions, self.model_id = path, questions, model_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            _lock(self._file, path)
            self.done = self._resume()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _resume(self) -> int:
        self._file.seek(0)
        content = self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        ids = [_parsed(line, self.path, number)["question_id"] for number, line in enumerate(lines, 1)]
        wanted = [question.id for question in self.questions]
        if ids != wanted[: len(ids)]:
            number = next(i for i, name in enumerate(ids) if i >= len(wanted) or name != wanted[i])
            raise UserError(
                f"{self.path}, line {number + 1} answers question {ids[number]}, which is not the one asked there: "
                "give another --out, or remove the file"
            )
        return len(ids)

    def append(self, question: Question, text: str, problem: str | None) -> None:
        """Write the line of the next question."""
        line = {
            "question_id": question.id,
            "prompt": question.prompt or question.text,
            "text": text,
            # Not random as the original's, so that a resumed run writes the same file as an unbroken one.
            "answer_id": uuid5(NAMESPACE_OID, f"{self.model_id} {question.id} {question.text} {text}").hex,
            "model_id": self.model_id,
            "metadata": {"error": problem} if problem else {},
        } | dict(question.extra)
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self.done += 1


def read_answers(path: Path) -> Iterator[Answer]:
    """The answers of a file.

    Raises:
        UserError: it is missing, or a line is none.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run eval/run.py first") from None
    for number, line in enumerate(content.splitlines(), 1):
        row = _parsed(line, path, number)
        extra = {name: value for name, value in row.items() if name not in OWN_FIELDS}
        failed = bool((row.get("metadata") or {}).get("error"))
        yield Answer(row["question_id"], row.get("prompt", ""), row["text"], failed, extra)


def merge(directory: Path, sizes: Sequence[int]) -> list[int]:
    """Put the files of all shards into one, once each holds its number of answers.

    Args:
        directory: of one benchmark.
        sizes: questions in each shard.

    Returns:
        The shards, from 1, that are not finished; where there are none the one file is written.
    """
    parts = [shard_file(directory, shard, len(sizes)) for shard in range(1, len(sizes) + 1)]
    contents = [part.read_bytes() if part.is_file() else b"" for part in parts]
    missing = [
        shard
        for shard, (content, size) in enumerate(zip(contents, sizes, strict=True), 1)
        if content.count(b"\n") < size or not content.endswith(b"\n") and size
    ]
    if not missing:
        partial = directory / f"{WHOLE}.{os.getpid()}.partial"
        partial.write_bytes(b"".join(contents))
        partial.replace(directory / WHOLE)
    return missing


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "question_id" not in row or not isinstance(row.get("text"), str):
        raise UserError(f"{path}, line {number} is no answer: remove the file and run again")
    return row


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: there, two processes on one shard are not told apart
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"{path} is being written by another process: give each its own --shard or --out") from None
