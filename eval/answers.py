"""Answer files: one line for each question in the original's form, written as soon as it is answered.

A run that was killed, also by kill -9, goes on after the last whole line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from uuid import NAMESPACE_OID, uuid5

from mobilevlm.atomic_file import write_whole
from mobilevlm.commands import command
from mobilevlm.errors import UserError

from .task import Answer, Question

WHOLE = "answers.jsonl"
OWN_FIELDS = ("question_id", "prompt", "text", "answer_id", "model_id", "metadata")


def shard_of(questions: Sequence[Question], shard: int, num_shards: int) -> Sequence[Question]:
    """Questions of one shard: contiguous parts of ceil(n / num_shards), as the original cuts them.

    Args:
        questions: of all shards.
        shard: from 1.
        num_shards: how many there are.
    """
    size = math.ceil(len(questions) / num_shards)
    return questions[(shard - 1) * size : shard * size]


def shard_file(directory: Path, shard: int, num_shards: int) -> Path:
    """File of a shard's answers.

    Args:
        directory: of one benchmark.
        shard: from 1.
        num_shards: how many there are; with one, its file is the whole one.
    """
    return directory / (WHOLE if num_shards == 1 else f"answers-{shard}-of-{num_shards}.jsonl")


class AnswerFile:
    """Answers to some questions so far, in the questions' order.

    Attributes:
        done: number of questions that have their line.
    """

    def __init__(self, path: Path, questions: Sequence[Question], model_id: str, batch_size: int = 1):
        """Open or begin a file, for this process alone; an incomplete last line or batch is removed.

        By rounding, an answer may depend on the questions of its batch: a batch is asked whole or not at all.

        Args:
            path: of the file; its directory is made.
            questions: in the order of the lines.
            model_id: name of the model, for the lines.
            batch_size: how many questions are asked at a time.

        Raises:
            UserError: another process writes it, or it answers other questions.
        """
        self.path, self.questions, self.model_id = path, questions, model_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        try:
            _lock(self._file, path)
            self.done = self._resume(batch_size)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> AnswerFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _resume(self, batch_size: int) -> int:
        self._file.seek(0)
        content = self._file.read()
        lines = _whole_lines(content)
        _check_questions(lines, self.questions, self.path)
        if len(lines) < len(self.questions):
            del lines[len(lines) - len(lines) % batch_size :]
        kept = sum(map(len, lines))
        if kept < len(content):
            self._file.truncate(kept)
        return len(lines)

    def append(self, question: Question, text: str, problem: str | None) -> None:
        """Write the line of the next question.

        Args:
            question: the next one.
            text: the answer.
            problem: why the question could not be asked, or None.
        """
        line = {
            "question_id": question.id,
            "prompt": question.saved_prompt,
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
    """Answers of a file, in its order.

    Raises:
        UserError: the file is missing, or a line is no answer.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `{command('eval/run.py')}` first") from None
    for number, line in enumerate(content.splitlines(), 1):
        row = _parsed(line, path, number)
        extra = {name: value for name, value in row.items() if name not in OWN_FIELDS}
        failed = bool((row.get("metadata") or {}).get("error"))
        yield Answer(row["question_id"], row.get("prompt", ""), row["text"], failed, extra)


def merge(directory: Path, questions: Sequence[Question], num_shards: int) -> list[int]:
    """Join the files of all shards, once each holds its answers.

    Args:
        directory: of one benchmark.
        questions: of all shards.
        num_shards: how many there are.

    Returns:
        The unfinished shards, from 1; where there are none, the joined file is written.

    Raises:
        UserError: a shard's file answers other questions.
    """
    missing, merged = [], b""
    for shard in range(1, num_shards + 1):
        path, asked = shard_file(directory, shard, num_shards), shard_of(questions, shard, num_shards)
        lines = _whole_lines(path.read_bytes() if path.is_file() else b"")
        _check_questions(lines, asked, path)
        merged += b"".join(lines)
        if len(lines) < len(asked):
            missing.append(shard)
    if not missing:
        write_whole(directory / WHOLE, merged, shared=True)
    return missing


def _whole_lines(content: bytes) -> list[bytes]:
    """Lines with their ends, without a last one that was cut off."""
    return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def _check_questions(lines: Sequence[bytes], questions: Sequence[Question], path: Path) -> None:
    """Check that each line answers its question, as it is asked now.

    Raises:
        UserError: a line is no answer, or its question is another one or worded otherwise.
    """
    asked = [(question.id, question.saved_prompt) for question in questions]
    for number, line in enumerate(lines, 1):
        row = _parsed(line, path, number)
        if number > len(asked) or (row["question_id"], row.get("prompt")) != asked[number - 1]:
            raise UserError(
                f"{path}, line {number} answers question {row['question_id']} ({str(row.get('prompt'))[:60]!r}), which "
                "is not the one asked there: give another --out, or remove the file"
            )


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """Object of a line."""
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "question_id" not in row or not isinstance(row.get("text"), str):
        raise UserError(f"{path}, line {number} is no answer: remove the file and run again")
    return row


def _lock(file: BinaryIO, path: Path) -> None:
    """Keep other processes from writing a file while it is open."""
    try:
        import fcntl
    except ImportError:  # Windows: there, two processes on one shard are not told apart
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"{path} is being written by another process: give each its own --shard or --out") from None
