"""Answers of several bundles timed in turns."""

from __future__ import annotations

import json

import pytest

from mobilevlm.runtime.answer_times import answer_times
from tests.conftest import ROOT, run

TIMES = ROOT / "runtime" / "answer_times.py"


def repetition(ttft_ms: float, *tokens: float) -> dict:
    return {"encode_ms": 1.0, "prefill_ms": 1.0, "ttft_ms": ttft_ms, "decode_ms": [list(tokens)], "other_cores": None}


def test_a_bundle_is_compared_round_by_round():
    """A machine that slows down to a half from round to round leaves the ratio as it is."""
    fast = [repetition(10 * slow, 1 * slow, 3 * slow, 1 * slow) for slow in (1, 2, 4)]
    slow = [repetition(20 * slow, 4 * slow, 2 * slow, 4 * slow) for slow in (1, 2, 4)]
    first, second = answer_times({"a": fast, "b": slow})
    assert first.each_ms == [15, 30, 60] and (first.ttft_ms, first.token_ms, first.answer_ms) == (20, 2, 30)
    assert (first.ratio, first.low, first.high) == (1, 1, 1)
    assert (second.answer_ms, second.ratio, second.low, second.high) == (60, 2, 2, 2)


def test_the_line_of_json_has_what_the_table_says(bundles):
    first, second = bundles.values()
    done = run(TIMES, "--engine", first, "--engine", second, "--decode-tokens", 3, "--rounds", 2)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["tokens"], found["rounds"]) == (3, 2)
    assert [one["engine"] for one in found["engines"]] == [str(first), str(second)]
    for one in found["engines"]:
        assert len(one["each_ms"]) == 2 and min(one["each_ms"]) <= one["answer_ms"] <= max(one["each_ms"])
        assert f"{one['answer_ms']:.1f}" in done.stdout and 0 < one["ttft_ms"] < one["answer_ms"]
    order = [line.split(": ")[1] for line in done.stderr.splitlines() if line.startswith("round")]
    assert order == [str(first), str(second), str(second), str(first)]


@pytest.mark.parametrize(
    "words, message",
    [(["--rounds", 0], "--rounds is 0"), (["--decode-tokens", 0], "--decode-tokens is 0"), (None, "twice")],
)
def test_mistakes_are_refused(words, message, bundle):
    done = run(TIMES, "--engine", bundle, *(["--engine", bundle] if words is None else words))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
