"""A session in a forked child, and under Ctrl-C at any moment.

Issue 23, "threads, processes, signals". Public kind: microsoft/onnxruntime pull request 31961 and issue 9800 (a forked
child hangs or dies when it frees a session of its parent, or runs it).
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from mobilevlm.runtime import Session
from mobilevlm.runtime.dialogue import Dialogue
from tests.conftest import ROOT

FORK = """
import multiprocessing, os, sys, threading, time
from mobilevlm.errors import UserError
from mobilevlm.runtime import Session
from mobilevlm.text.prompt import Conversation, template

bundle, way = sys.argv[1:]
session = Session(bundle, prefix_cache_bytes=2**22)
question = "What color is the circle?"
alone = "".join(session.chat(question))
talk = Conversation(template("v1"))
talk.ask("x " * 300)

def child():
    calls = [
        lambda: session.chat(question),
        lambda: "".join(reply),
        lambda: session.choose(question, ["red", "blue"]),
        lambda: session.keep_prefix(talk, []),
        lambda: session.save_prefix("never.prefix", talk, []),
    ]
    for call in calls:
        try:
            call()
        except UserError as error:
            assert f"opened in process {parent} and cannot be used in its child {os.getpid()}" in str(error), error
        else:
            raise AssertionError("it was not refused")

parent, reply = os.getpid(), session.chat(question)
if way == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    status = process.exitcode
else:
    if way == "while another thread answers":
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                "".join(session.chat(question, max_new_tokens=40))
        thread = threading.Thread(target=busy)
        thread.start()
        time.sleep(0.2)
    pid = os.fork()
    if pid == 0:
        child()
        if way == "close":
            session.close()
        if way == "own":
            with Session(bundle) as own:
                assert "".join(own.chat(question)) == alone
        sys.exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) - 7
    if way == "while another thread answers":
        stop.set()
        thread.join()
assert status == 0, status
assert "".join(session.chat(question)) == alone
print("the parent answers")
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="a system without fork")
@pytest.mark.parametrize("way", ["end", "close", "own", "multiprocessing", "while another thread answers"])
def test_a_forked_child_refuses_and_ends(demo_fp32, way):
    """With a sentence, and without waiting for threads that only its parent has."""
    words = [sys.executable, "-W", "ignore", "-c", FORK, str(demo_fp32), way]
    done = subprocess.run(words, capture_output=True, text=True, timeout=90, cwd=ROOT)
    assert done.returncode == 0 and done.stdout == "the parent answers\n", done.stderr


IMAGE = ROOT / "assets" / "shapes.png"


def interrupted(call, seconds):
    """Run a call that a signal interrupts as Ctrl-C does; whether it did."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        call()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


def timed(call):
    """Seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def rounds(bundle, prefix_cache_bytes, count):
    """Interrupt calls at random moments; what is asked next has to be answered as by a session of its own."""
    draws, hits = random.Random(prefix_cache_bytes), 0
    questions = ["What color is the circle?", "How many shapes are there?", "Where is the circle?"]
    with Session(bundle, prefix_cache_bytes=prefix_cache_bytes) as fresh:
        expected = {}
        for question in questions:
            fresh.decoder.forget()
            expected[question] = "".join(fresh.chat(question, IMAGE, max_new_tokens=12))
        likely = fresh.choose(questions[0], ["red", "blue"], IMAGE).probabilities
    with Session(bundle, prefix_cache_bytes=prefix_cache_bytes) as session:
        shown = session.read_images(IMAGE)
        whole = min(timed(lambda: "".join(session.chat(questions[0], IMAGE, max_new_tokens=12))) for _ in range(3))
        # On a busy machine fewer moments fall into a call: more are tried, up to ten times as many.
        for number in range(10 * count):
            if number >= count and hits >= 3:
                break
            question = draws.choice(questions)
            calls = [
                lambda question=question: "".join(session.chat(question, IMAGE, max_new_tokens=12)),
                lambda question=question: session.choose(question, ["red", "blue"], IMAGE),
                lambda text=f"{number} {question}": "".join(session.chat(text, shown, max_new_tokens=6)),
            ]
            if number % 5 == 0:
                session.decoder.forget()
            hits += interrupted(draws.choice(calls), draws.uniform(0, whole))
            question = draws.choice(questions)
            assert "".join(session.chat(question, IMAGE, max_new_tokens=12)) == expected[question]
        assert session.choose(questions[0], ["red", "blue"], IMAGE).probabilities == pytest.approx(likely, abs=1e-4)
    return hits


CACHES = pytest.mark.parametrize("size", [0, 2**24], ids=["no prefixes", "prefixes"])


@CACHES
def test_ctrl_c_at_any_moment_leaves_the_session_usable(demo_fp32, size):
    """Answers after an interruption are the right ones. Public: vllm-project/vllm issue 17738."""
    assert rounds(demo_fp32, size, 20) >= 3


@pytest.mark.slow
@CACHES
def test_ctrl_c_at_hundreds_of_moments(demo_fp32, size):
    assert rounds(demo_fp32, size, 500) >= 50


@CACHES
def test_an_exception_at_any_line_leaves_the_session_usable(demo_fp32, size):
    """Raised as Ctrl-C is, at one of all the lines of the runtime that an answer goes through."""
    question = "What color is the circle?"
    with Session(demo_fp32, prefix_cache_bytes=size) as session:
        expected = "".join(session.chat(question, IMAGE, max_new_tokens=8))
        lines = count_lines(lambda: "".join(session.chat(question, IMAGE, max_new_tokens=8)), session)
        draws, hits = random.Random(size), 0
        for _ in range(30):
            session.decoder.forget()
            try:
                at_line(draws.randrange(lines), lambda: "".join(session.chat(question, IMAGE, max_new_tokens=8)))
            except KeyboardInterrupt:
                hits += 1
            assert "".join(session.chat(question, IMAGE, max_new_tokens=8)) == expected
        assert hits >= 25


def at_line(stop, call):
    """Run a call; raise KeyboardInterrupt at its `stop`-th line of the runtime. Returns how many lines there were."""
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if "/runtime/" not in frame.f_code.co_filename.replace("\\", "/"):
            return None
        if event == "line":
            seen += 1
            if seen == stop:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen


def count_lines(call, session):
    session.decoder.forget()
    return at_line(0, call)


def test_ctrl_c_never_separates_a_question_from_its_images(demo_fp32):
    """A dialogue kept question and images in two steps: between them, the next turn had places without images."""
    with Session(demo_fp32) as session:
        whole, lines = (lambda ask, image: "".join(ask("What is it?", image))), 0
        lines = at_line(0, lambda: whole(partial(Dialogue(session).ask, max_new_tokens=2), IMAGE))
        for stop in range(40):
            dialogue = Dialogue(session)
            ask = partial(dialogue.ask, max_new_tokens=2)
            with contextlib.suppress(KeyboardInterrupt):
                at_line(lines - stop, partial(whole, ask, IMAGE))
            whole(ask, None)
