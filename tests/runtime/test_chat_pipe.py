"""Questions from a pipe: what cannot be done ends the script with its line and status 2, and nothing is answered then.

Issue 25, row "questions from a pipe"; public kind: ggml-org/llama.cpp issue 13959 (llama-mtmd-cli answers without the
image it did not load).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHAT, ROOT

SHAPES = ROOT / "assets" / "shapes.png"


def ask(bundle: Path, questions: bytes, redirect: str = "", before: str = "") -> subprocess.CompletedProcess[bytes]:
    """Give bytes to chat.py's stdin, in a shell where its streams can be redirected."""
    line = f"{before}{sys.executable} {CHAT} --engine {bundle} --max-new-tokens 4 {redirect}"
    return subprocess.run(["bash", "-c", line], input=questions, capture_output=True, timeout=120, cwd=ROOT)


@pytest.mark.parametrize(
    ("questions", "answers", "message"),
    [
        (b"/image missing.png\nWhat is it?\n", 0, "line 1 of stdin: missing.png does not exist"),
        (b"Hello\n\n/image tests\nWhat is it?\n", 1, "line 3 of stdin: tests is a directory"),
        (b"/image\nWhat is it?\n", 0, "line 1 of stdin: /image needs a file name"),
        (b"/image " + b"x" * 5000 + b"\nHello\n", 0, "line 1 of stdin: File name too long"),
        (b"/image a\xf0\x9f\x98\x80.png\nHello\n", 0, "line 1 of stdin: a\N{GRINNING FACE}.png does not exist"),
        (b"Hello\n/nonsense\nHello\n", 1, "line 2 of stdin: /nonsense is no command"),
        (b"Hello\ncaf\xe9?\n", 1, "line 2 of stdin is not UTF-8: byte 3 is 0xe9. It looks like Latin-1"),
        (b"Hello\r\n\x00\r\n", 1, "line 2 of stdin holds a NUL byte"),
        ("Hello\n".encode("utf-16-le"), 0, "line 1 of stdin holds a NUL byte"),
        (b"\xff\xfeH", 0, "stdin is not UTF-8"),
        (b"a " * 5000 + b"\nHello\n", 0, "line 1 of stdin: the prompt has"),
        (b"x" * (2**20 + 2), 0, "line 1 of stdin is longer than 1048576 bytes"),
        (b"\xed\xa0\x80\n", 0, "line 1 of stdin is not UTF-8"),
    ],
)
def test_questions_from_a_pipe_that_cannot_be_asked(demo_fp32, questions, answers, message):
    done = ask(demo_fp32, questions)
    said = done.stderr.decode()
    assert done.returncode == 2 and message in said and said.count("chat.py: ") == 1 and "Traceback" not in said
    assert len(done.stdout.splitlines()) == answers


@pytest.mark.parametrize(
    "questions",
    [
        b"\xef\xbb\xbfHello\r\n\r\n   \r\nHello",
        b"\n\nHello\nHello\n/quit\n/nonsense\n",
        b"/stats\nHello\n/reset\n/help\nHello\n",
        "Hello\r\nHello\r\n".encode("utf-16"),
    ],
    ids=["bom and CRLF", "empty lines", "commands", "UTF-16"],
)
def test_questions_from_a_pipe_as_editors_write_them(demo_fp32, questions):
    done = ask(demo_fp32, questions)
    plain = ask(demo_fp32, b"Hello\n/reset\nHello\n" if b"/reset" in questions else b"Hello\nHello\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout and len(done.stdout.splitlines()) == 2


def test_questions_from_a_pipe_in_a_locale_without_utf_8(demo_fp32):
    plain = ask(demo_fp32, "Was für eine Farbe?\n".encode())
    done = ask(demo_fp32, "Was für eine Farbe?\n".encode(), before="LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 ")
    assert done.returncode == plain.returncode == 0 and done.stdout == plain.stdout


@pytest.mark.parametrize(
    ("redirect", "statuses", "message"),
    [
        ("<&-", (0,), ""),
        ("</dev/null", (0,), ""),
        ("</dev/zero", (2,), "is longer than"),
        (">&-", (0,), ""),
        ("2>&-", (0,), ""),
        (">/dev/full", (2,), "the disk is full"),
        ("2>/dev/full", (2,), ""),
        ("| head -c 1; exit ${PIPESTATUS[0]}", (0, 141), ""),
    ],
)
def test_streams_of_a_pipe_that_are_closed_or_full(demo_fp32, redirect, statuses, message):
    done = ask(demo_fp32, b"Hello\n/stats\nHello\nHello\n", redirect)
    said = done.stderr.decode()
    assert done.returncode in statuses and message in said and "Traceback" not in said and "Exception" not in said
    if redirect == "2>&-":
        assert len(done.stdout.splitlines()) == 3, "what is for stderr went to stdout"
