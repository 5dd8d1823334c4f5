"""The parts of the benchmark that need no engine: intervals, profiles, quietness, workers, plans, tables."""

import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

from mobilevlm.errors import UserError
from mobilevlm.runtime.bench import quiet
from mobilevlm.runtime.bench.figures import Spread, Stage
from mobilevlm.runtime.bench.intervals import interval
from mobilevlm.runtime.bench.limits import Limits, best_of
from mobilevlm.runtime.bench.plan import make_plan
from mobilevlm.runtime.bench.profile import BETWEEN, operator_times
from mobilevlm.runtime.bench.ratios import paired_ratio
from mobilevlm.runtime.bench.report import Report, Result
from mobilevlm.runtime.bench.rounds import Measured, rounds
from mobilevlm.runtime.bench.stages import decode_times, question_times
from mobilevlm.runtime.bench.workers import Worker


def test_a_ratio_is_paired():
    """A machine that slows down by the round changes both times, and not their ratio."""
    slower = np.array([10.0, 20.0, 40.0, 80.0, 160.0])
    found = paired_ratio("decode", slower, 1.5 * slower)
    assert (found.ratio, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    unpaired = paired_ratio("decode", slower, 1.5 * slower[::-1])
    assert unpaired.low < unpaired.ratio < unpaired.high


@pytest.mark.parametrize("rounds", [1, 2, 5, 40])
def test_the_interval_holds_the_ratio_and_narrows(rounds):
    draws = np.random.default_rng(rounds)
    found = paired_ratio("encode", draws.uniform(1, 2, rounds), draws.uniform(1, 2, rounds))
    assert found.low <= found.ratio <= found.high
    if rounds == 40:
        few = paired_ratio("encode", draws.uniform(1, 2, 5), draws.uniform(1, 2, 5))
        assert found.high - found.low < few.high - few.low


def run_of(start, *operators):
    """Events of one run: 1 microsecond before the first operator, between any two, and after the last."""
    events, now = [], start + 1
    for name, duration in operators:
        events.append({"cat": "Node", "name": "x", "ts": now, "dur": duration, "args": {"op_name": name}})
        now += duration + 1
    return [*events, {"cat": "Session", "name": "model_run", "ts": start, "dur": now - start}]


def test_a_profile_is_the_mean_of_all_runs_but_the_first():
    loading = {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 99}
    first, second = run_of(1000, ("MatMul", 900)), run_of(3000, ("MatMul", 10), ("Add", 4), ("MatMul", 20))
    third = run_of(5000, ("MatMul", 30), ("Add", 4), ("MatMul", 20))
    rows = {row.operator: row for row in operator_times([[loading, *third, *first, *second]])}
    assert (rows["MatMul"].count, rows["MatMul"].ms) == (2, pytest.approx(0.040))
    assert (rows["Add"].count, rows["Add"].ms) == (1, pytest.approx(0.004))
    assert rows[BETWEEN].ms == pytest.approx(0.004)
    assert sum(row.share for row in rows.values()) == pytest.approx(1)


def test_a_stage_of_two_sessions_is_their_sum_and_idle_sessions_do_not_count():
    part = [*run_of(0, ("MatMul", 10)), *run_of(100, ("MatMul", 10))]
    idle = run_of(0, ("Conv", 500))  # ran once: of another stage
    rows = {row.operator: row for row in operator_times([part, part, idle, []])}
    assert set(rows) == {"MatMul", BETWEEN} and rows["MatMul"].ms == pytest.approx(0.020)
    assert operator_times([idle]) == []


def test_other_processes_are_the_busy_cores_less_our_own(monkeypatch):
    """2 s in which all cores together were busy for 3 s, 1 s of it ours: another process had a core."""
    ticks = 4 / os.sysconf("SC_CLK_TCK")  # of four cores, which nobody can tell
    monkeypatch.setattr(quiet.os, "cpu_count", lambda: 4)
    for name, ends in (("process_time", [5, 6]), ("perf_counter", [0, 2])):
        monkeypatch.setattr(quiet.time, name, iter(ends).__next__)
    monkeypatch.setattr(quiet, "_busy_seconds", iter([100, 103 + ticks]).__next__)
    assert quiet.watched(lambda: "done") == ("done", pytest.approx(1.0))


def test_where_the_system_does_not_tell_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(quiet, "_busy_seconds", lambda: None)
    assert quiet.watched(lambda: 7) == (7, None)
    monkeypatch.setattr(quiet.time, "sleep", lambda seconds: None)
    quiet.wait_until_quiet(3600)


def test_waiting_ends_with_the_noise_or_with_patience(monkeypatch):
    looks = []
    monkeypatch.setattr(quiet.time, "monotonic", lambda: len(looks))
    for noise, expected in ((iter([2.0, 1.0, 0.1, 0.0]), 3), (iter([2.0] * 99), 10)):
        looks.clear()
        monkeypatch.setattr(quiet, "watched", lambda work, noise=noise: looks.append(1) or (None, next(noise)))
        quiet.wait_until_quiet(10)
        assert len(looks) == expected


class Counter:
    """What a worker of these tests makes."""

    def __init__(self, start):
        if start < 0:
            raise UserError("start is below 0: take another")
        self.value = start


def add(counter, value):
    counter.value += value
    return counter.value, os.getpid()


def divide(counter, value):
    return counter.value / value


def forever(counter):
    while True:
        time.sleep(1)


def die(counter):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_keeps_its_object_and_tells_what_went_wrong():
    with Worker("sums", Counter, 5) as worker:
        assert worker.call(add, 2)[0] == 7
        with pytest.raises(RuntimeError, match="(?s)measures sums:.*Traceback.*ZeroDivisionError"):
            worker.call(divide, 0)
        value, process = worker.call(add, 3)
        assert value == 10 and process != os.getpid()
        with pytest.raises(UserError, match=r"measures sums was ended \(exit status -9\).*--max-context"):
            worker.call(die)
    with Worker("sums", Counter, -1) as worker, pytest.raises(UserError, match="start is below 0: take another"):
        worker.call(add, 2)


def test_a_worker_does_not_outlive_its_block():
    with Worker("sums", Counter, 0) as worker:
        process = worker.call(add, 0)[1]
        worker._connection.send((forever, (), {}))
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def bundle(num_image_tokens=144, max_context=2048, **fields):
    manifest = dict(name="m", target="host", precision={"decoder": "fp32"})
    manifest |= dict(num_image_tokens=num_image_tokens, max_context=max_context)
    return SimpleNamespace(manifest=SimpleNamespace(**manifest), directory="DIR", **fields)


@pytest.mark.parametrize(
    "sizes, prompt, expected",
    [
        ([(144, 2048)], None, (204, (204, 512, 1024, 2016))),
        ([(144, 2048)], 600, (600, (600, 1024, 2016))),
        ([(0, 4096)], None, (204, (204, 512, 1024, 2048, 4064))),
        ([(576, 2048)], None, (636, (636, 1024, 2016))),  # a picture and a question do not fit into 204
        ([(144, 230)], None, (198, (198,))),
        ([(144, 2048), (16, 600)], None, (204, (204, 512, 568))),  # what both can do
    ],
)
def test_plans(sizes, prompt, expected):
    plan = make_plan([bundle(*size) for size in sizes], prompt, 32)
    assert (plan.prompt_tokens, plan.contexts) == expected


@pytest.mark.parametrize(
    "prompt, tokens, message",
    [
        (144, 32, r"--prompt-tokens is 144; 145 \(144 image tokens and one\) to 2016 are possible"),
        (2017, 32, "--prompt-tokens is 2017; 145 .* to 2016 are possible: the context holds 2048"),
        (None, 0, "--decode-tokens is 0; 1 to 1903 fit"),
        (None, 1904, "--decode-tokens is 1904; 1 to 1903 fit behind an image of 144 tokens in a context of 2048"),
    ],
)
def test_plans_that_do_not_fit_say_what_does(prompt, tokens, message):
    with pytest.raises(UserError, match=message):
        make_plan([bundle()], prompt, tokens)


LIMITS = Limits(read_gb_per_s=40.0, fp32_gflop_per_s=200.0, int8_gop_per_s=800.0, threads=2)


def test_limits_are_the_best_seen_and_depend_on_the_weights():
    moments = [Limits(read_gb_per_s=r, fp32_gflop_per_s=f, int8_gop_per_s=i, threads=2) for r, f, i in MOMENTS]
    assert best_of(moments) == LIMITS
    rates = [LIMITS.operations_per_s(precision) for precision in ("fp32", "fp16", "int8", "int4")]
    assert rates == [200e9, 200e9, 800e9, 800e9]


MOMENTS = [(40.0, 120.0, 700.0), (35.0, 200.0, 600.0), (1.0, 150.0, 800.0)]


def test_a_system_that_tells_nothing_gets_a_plain_table():
    """macOS and Windows have no /proc: no memory, no other processes, and no failure."""
    stages = [
        Stage("load", Spread(3.0, 2.0, 4.0), None, (3.0, 2.0, 4.0)),
        Stage("decode after 204", Spread(10.0, 8.0, 12.5), 4.0, (8.0, 10.0, 12.5), 9.5, 12.0, 204),
    ]
    unknown = Measured([3.0], {"peak_rss_mib": None, "peak_rss_full_mib": None}, [{"other_cores": None}] * 3)
    machine = dict(cpu="M9", cores=4, memory_gib=None, governor=None, system="Darwin")
    machine |= dict(python="3", onnxruntime="1", numpy="2")
    plan = make_plan([bundle()], None, 32)
    report = Report(machine, LIMITS, plan, [Result(bundle(), stages, unknown, {})], [])
    text = str(report)
    assert "memory not available, clock governor not available" in text and "peak RSS not available" in text
    assert "not available, not available, not available" in text
    row = next(line for line in text.splitlines() if line.startswith("| decode after 204"))
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["100.0", "80.0-125.0", "9.50", "12.00", "4.00", "0.40"]
    noisy = Measured([3.0], unknown.memory, [{"other_cores": cores} for cores in (0.0, 0.5, 0.1)])
    report = Report(machine, LIMITS, plan, [Result(bundle(), stages, noisy, {})], [])
    assert "0.00, 0.50 (noisy), 0.10" in str(report)
    assert report.as_json()["engines"][0]["noisy"] == [False, True, False]


def test_everyone_begins_a_round_once():
    assert list(rounds(3, 4)) == [(1, [0, 1, 2]), (2, [1, 2, 0]), (3, [2, 0, 1]), (4, [0, 1, 2])]
    assert list(rounds(1, 2)) == [(1, [0]), (2, [0])]


def test_times_by_stage():
    """Of a decode stage the figures are those of tokens, its range that of repetitions."""
    repetitions = [
        {"encode_ms": 5.0, "prefill_ms": 10.0 * n, "ttft_ms": 16.0 * n, "decode_ms": [[n, 3.0 * n], [7.0, 9.0]]}
        for n in (1.0, 2.0)
    ]
    encode, prefill, ttft = question_times(repetitions)
    assert [stage.name for stage in (encode, prefill, ttft)] == ["image encode", "prefill", "TTFT"]
    assert (prefill.every, ttft.mean_of_each) == ((10.0, 20.0), (16.0, 32.0))
    first, second = decode_times(repetitions, (204, 512))
    assert (first.name, first.context, second.name) == ("decode after 204", 204, "decode after 512")
    assert (first.every, first.mean_of_each, second.mean_of_each) == ((1.0, 3.0, 2.0, 6.0), (2.0, 4.0), (8.0, 8.0))
    assert first.percentile(50) == pytest.approx(2.5)
    figures = Stage.of(first, 1.5)
    assert (figures.ms, figures.each, figures.of_limit) == (Spread(3.0, 2.0, 4.0), (2.0, 4.0), 0.5)
    assert (figures.p50_ms, figures.p95_ms) == (pytest.approx(2.5), pytest.approx(5.55))
    assert Stage.of(prefill, None).p50_ms is None
    text_only = [one | {"encode_ms": None} for one in repetitions]
    assert [stage.name for stage in question_times(text_only)] == ["prefill", "TTFT"]


VALUES = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])


def test_intervals_are_the_same_every_time():
    """Figures in reports stay as they are: pinned for both ways of drawing, and for independent groups."""

    def of_weights(weights):
        return weights @ VALUES / 8

    assert interval(lambda chosen: VALUES[chosen].mean(1), 8) == pytest.approx((2.25, 5.625))
    assert interval(of_weights, 8, as_weights=True) == pytest.approx((2.25, 5.75))
    parts = interval(of_weights, 8, as_weights=True, samples_at_once=100)
    assert parts == interval(of_weights, 8, as_weights=True)
    low, high = interval(lambda one, other: VALUES[one].mean(1) - VALUES[other].mean(1), 8, 8)
    assert (low, high) == pytest.approx((-2.5, 2.5))
