"""Answer files: whole lines or none, the same file whether or not a run was interrupted, shards that add up."""

import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.errors import UserError
from mobilevlm.eval.answers import WHOLE, AnswerFile, merge, read_answers, shard_file, shard_of
from mobilevlm.eval.task import Question
from tests.conftest import ROOT

QUESTIONS = [Question(f"q{number}", f"What is {number}?\nÜber {number}", None) for number in range(7)]


def answer(question: Question) -> str:
    return f"It is {question.id}, naïvely\n…"


def write(path, questions=QUESTIONS, until=None) -> bytes:
    with AnswerFile(path, questions, "model") as file:
        for question in questions[file.done : until]:
            file.append(question, answer(question), None)
    return path.read_bytes()


def test_a_line_is_the_originals(tmp_path):
    with AnswerFile(tmp_path / WHOLE, [Question(3, "Why?", None, "<image>\nWhy?", extra={"round_id": 0})], "m") as file:
        file.append(file.questions[0], "So.", None)
    row = json.loads((tmp_path / WHOLE).read_text())
    assert row.pop("answer_id")
    assert row == {
        **{"question_id": 3, "prompt": "<image>\nWhy?", "text": "So.", "model_id": "m", "metadata": {}},
        "round_id": 0,
    }
    (read,) = read_answers(tmp_path / WHOLE)
    assert (read.id, read.prompt, read.text, read.failed, read.extra) == (
        3,
        "<image>\nWhy?",
        "So.",
        False,
        {"round_id": 0},
    )


@settings(deadline=None)
@given(cut=st.integers(min_value=0))
def test_cut_anywhere_and_resumed_it_is_the_same_file(tmp_path_factory, cut):
    """Whatever a kill or a lost disk leaves of the file: every question has one line, in order, to the byte."""
    directory = tmp_path_factory.mktemp("cut")
    whole = write(directory / "whole.jsonl")
    part = directory / "part.jsonl"
    part.write_bytes(whole[: cut % (len(whole) + 1)])
    assert write(part) == whole


def test_no_question_is_asked_twice(tmp_path):
    write(tmp_path / WHOLE, until=4)
    with AnswerFile(tmp_path / WHOLE, QUESTIONS, "model") as file:
        assert file.done == 4


KILLED = """
import sys, time
sys.path[0] = sys.argv[1]
from pathlib import Path
from tests.eval.test_answers import QUESTIONS, AnswerFile, answer
with AnswerFile(Path(sys.argv[2]), QUESTIONS, "model") as file:
    for question in QUESTIONS[file.done:]:
        file.append(question, answer(question), None)
        print(question.id, flush=True)
        time.sleep(0.01)
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_it_has_lost_nothing_it_said(tmp_path, seed):
    """kill -9 after some line was seen: that line is in the file, and the end is that of an unbroken run."""
    whole, path = write(tmp_path / "whole.jsonl"), tmp_path / "part.jsonl"
    seen = random.Random(seed).randint(1, len(QUESTIONS) - 1)
    command = [sys.executable, "-c", KILLED, str(ROOT), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        last = [process.stdout.readline().strip() for _ in range(seen)][-1]
        process.kill()
    assert last in [answer.id for answer in read_answers(path)]
    assert write(path) == whole


def test_two_processes_do_not_write_one_file(tmp_path):
    with (
        AnswerFile(tmp_path / WHOLE, QUESTIONS, "model"),
        pytest.raises(UserError, match="is being written by another process"),
    ):
        AnswerFile(tmp_path / WHOLE, QUESTIONS, "model")


def test_answers_to_other_questions_are_refused(tmp_path):
    write(tmp_path / WHOLE, until=3)
    for others in (QUESTIONS[1:], QUESTIONS[:2]):
        with pytest.raises(UserError, match="line [13] answers question q[02]"):
            AnswerFile(tmp_path / WHOLE, others, "model")
    assert len(list(read_answers(tmp_path / WHOLE))) == 3


def test_answers_to_another_wording_are_refused(tmp_path):
    """As of data that was made again, with the same ids."""
    write(tmp_path / WHOLE, until=3)
    others = [replace(QUESTIONS[0], prompt="What was 0?"), *QUESTIONS[1:]]
    with pytest.raises(UserError, match=r"line 1 answers question q0 \('What is 0\?.*, which is not the one asked"):
        AnswerFile(tmp_path / WHOLE, others, "model")


def test_a_batch_that_was_cut_is_asked_again(tmp_path):
    """Of seven questions in batches of three; the last batch has one, and is whole."""
    whole = write(tmp_path / WHOLE)
    for lines, kept in ((7, 7), (6, 6), (5, 3), (3, 3), (2, 0)):
        (tmp_path / WHOLE).write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]))
        with AnswerFile(tmp_path / WHOLE, QUESTIONS, "model", batch_size=3) as file:
            assert file.done == kept
        assert (tmp_path / WHOLE).read_bytes().count(b"\n") == kept


def test_what_is_no_answer_is_refused(tmp_path):
    (tmp_path / WHOLE).write_text('{"question_id": "q0"}\n')
    with pytest.raises(UserError, match="line 1 is no answer"):
        AnswerFile(tmp_path / WHOLE, QUESTIONS, "model")
    with pytest.raises(UserError, match="is missing: run `python eval/run.py` first"):
        list(read_answers(tmp_path / "none.jsonl"))


@settings(deadline=None)
@given(count=st.integers(0, 40), shards=st.integers(1, 9))
def test_shards_are_contiguous_parts_of_all(count, shards):
    """Against the original's list of chunks of ceil(n / k), the rest empty."""
    size = -(-count // shards)
    expected = [list(range(start, min(start + size, count))) for start in range(0, count, size or 1)]
    expected += [[]] * (shards - len(expected))
    assert [list(shard_of(range(count), shard, shards)) for shard in range(1, shards + 1)] == expected


def test_shards_are_merged_when_the_last_is_there(tmp_path):
    whole = write(tmp_path / "whole" / WHOLE)
    for shard in (2, 3, 1):
        assert merge(tmp_path, QUESTIONS, 3) and not (tmp_path / WHOLE).exists()
        part = shard_of(QUESTIONS, shard, 3)
        write(shard_file(tmp_path, shard, 3), part, until=len(part) - 1)
        assert shard in merge(tmp_path, QUESTIONS, 3)
        write(shard_file(tmp_path, shard, 3), part)
    assert merge(tmp_path, QUESTIONS, 3) == []
    assert (tmp_path / WHOLE).read_bytes() == whole


@pytest.mark.parametrize("others", [QUESTIONS[:4], QUESTIONS[1:4]], ids=["more", "other"])
def test_a_shard_of_another_run_is_not_merged(tmp_path, others):
    """One with more answers than were asked, or with answers to other questions: of another --limit, say."""
    for shard in (1, 2, 3):
        asked = others if shard == 1 else shard_of(QUESTIONS, shard, 3)
        write(shard_file(tmp_path, shard, 3), asked)
    with pytest.raises(UserError, match="answers-1-of-3.jsonl, line [14] answers question q[13]"):
        merge(tmp_path, QUESTIONS, 3)
    assert not (tmp_path / WHOLE).exists()
