"""benchmark.py as a person uses it: its line of JSON, two bundles in turns, mistakes, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import BENCHMARK, run
from tests.runtime.test_torch_free import BLOCKED

QUICK = ["--repeats", 2, "--decode-tokens", 3, "--prompt-tokens", 150, "--wait", 0]
CONTEXTS = [150, 512, 1024, 2045]


def result_of(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def single(bundles):
    """One bundle, with its profile."""
    return run(BENCHMARK, "--engine", bundles["v2_ldpnetv2_336"], "--profile", *QUICK)


@pytest.fixture(scope="module")
def pair(bundles):
    """A bundle and itself."""
    return run(BENCHMARK, "--compare", bundles["v2_ldpnetv2_336"], bundles["v2_ldpnetv2_336"], *QUICK)


def test_the_line_of_json_is_consistent(single):
    result = result_of(single)
    (engine,) = result["engines"]
    stages = engine["stages"]
    once = ["load", "load and first TTFT", "image encode", "prefill", "TTFT"]
    assert list(stages) == [*once, *(f"decode after {n}" for n in CONTEXTS)]
    starts = zip(stages["load"]["each"], stages["load and first TTFT"]["each"], strict=True)
    assert all(first > load for load, first in starts)  # by how much is the machine's affair
    assert result["plan"] == {"prompt_tokens": 150, "decode_tokens": 3, "contexts": CONTEXTS}
    for stage in stages.values():
        assert len(stage["each"]) == 2
        assert 0 < stage["ms"]["min"] == min(stage["each"]) <= stage["ms"]["median"] <= stage["ms"]["max"]
    parts = (stages[name]["each"] for name in ("image encode", "prefill", "TTFT"))
    for encode, prefill, ttft in zip(*parts, strict=True):
        assert encode + prefill <= ttft
    for context in CONTEXTS:
        stage = stages[f"decode after {context}"]
        assert stage["context"] == context and stage["p50_ms"] <= stage["p95_ms"]
        assert stage["tokens_per_s"]["median"] == pytest.approx(1e3 / stage["ms"]["median"])
        assert stage["of_limit"] == pytest.approx(stage["limit_ms"] / stage["ms"]["median"])
    assert stages["decode after 150"]["limit_ms"] < stages["decode after 2045"]["limit_ms"]
    assert engine["peak_rss_full_mib"] >= engine["peak_rss_mib"] > 0
    assert len(engine["other_cores"]) == len(engine["noisy"]) == 2
    assert all(value > 0 for value in result["limits"].values()) and result["ratios"] == []


def test_people_get_tables_and_progress(single):
    for word in (
        "image encode",
        "TTFT",
        "decode after 512",
        "tokens/s",
        "of limit",
        "peak RSS",
        "GB/s",
        "profile, decode",
    ):
        assert word in single.stdout
    assert re.search(r"cores used by other processes, .*: \d", single.stdout)
    assert "round 2 of 2" in single.stderr and "Traceback" not in single.stderr


def test_the_profile_sums_up_to_the_stages(single, bundles):
    config = json.loads((bundles["v2_ldpnetv2_336"] / "bundle.json").read_text())["model"]
    profile = result_of(single)["engines"][0]["profile"]
    assert list(profile) == ["image encode", "prefill", "decode"]
    for rows in profile.values():
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert all(row["ms"] >= 0 and row["count"] == int(row["count"]) for row in rows)
        assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    for stage in ("prefill", "decode"):
        (attention,) = [row for row in profile[stage] if row["operator"] == "GroupQueryAttention"]
        assert attention["count"] == config["num_hidden_layers"]
    assert any(row["operator"] == "Conv" for row in profile["image encode"])


def test_two_bundles_in_turns(pair):
    result = result_of(pair)
    first, second = result["engines"]
    assert [ratio["stage"] for ratio in result["ratios"]] == list(first["stages"]) == list(second["stages"])
    for ratio in result["ratios"]:
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"] < float("inf")
        pairs = zip(*(engine["stages"][ratio["stage"]]["each"] for engine in (first, second)), strict=True)
        ratios = [b / a for a, b in pairs]
        assert min(ratios) <= ratio["ratio"] <= max(ratios)
    assert first["stages"] != second["stages"]  # each was measured
    assert first["peak_rss_mib"] == pytest.approx(second["peak_rss_mib"], rel=0.2)  # nothing of the other's is in it
    assert "A = " in pair.stdout and "B / A" in pair.stdout


def test_bundles_of_different_pictures(bundles):
    """16 rows a picture against 144: the same prompt length for both."""
    done = run(BENCHMARK, "--compare", bundles["v1_ldpnet_112"], bundles["v2_ldpnetv2_336"], "--repeats", 1, *QUICK[2:])
    assert [engine["name"] for engine in result_of(done)["engines"]] == ["ckpt_safetensors"] * 2
    assert (
        "150 tokens, 16 of them image tokens" in done.stdout and "150 tokens, 144 of them image tokens" in done.stdout
    )


def test_without_pytorch_and_onnx(bundles, tmp_path):
    """Packages in the way that cannot be imported, for the workers too."""
    for name in BLOCKED:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('blocked: {name}')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    assert "blocked: torch" in run("-c", "import torch", env=environment).stderr
    done = run(BENCHMARK, "--engine", bundles["v1_ldpnet_112"], "--repeats", 1, *QUICK[2:], env=environment)
    assert list(result_of(done)["engines"][0]["stages"])[0] == "load"


@pytest.mark.parametrize(
    "options, message",
    [
        (["--engine", "no/where"], "no engine bundle at no/where. Build one: python export/build_engines.py"),
        (["--compare", "{bundle}"], "expected 2 arguments"),
        (["--compare", "{bundle}", "no/where"], "no engine bundle at no/where"),
        (["--compare", "{bundle}", "{bundle}", "--engine", "{bundle}"], "not allowed with argument"),
        ([], "one of the arguments --engine --compare is required"),
        (["--engine", "{bundle}", "--repeats", "0"], "--repeats is 0"),
        (["--engine", "{bundle}", "--prompt-tokens", "10"], "--prompt-tokens is 10; 145"),
        (["--engine", "{bundle}", "--decode-tokens", "5000"], "--decode-tokens is 5000; 1 to 1903 fit"),
        (["--engine", "{bundle}", "--wait", "soon"], "invalid float value: 'soon'"),
    ],
)
def test_mistakes_are_one_line_and_status_2(options, message, bundle):
    done = run(BENCHMARK, *(word.replace("{bundle}", str(bundle)) for word in options))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_damaged_bundle_names_the_command_that_mends_it(bundle_copy):
    (bundle_copy / "decoder.weights").unlink()
    done = run(BENCHMARK, "--engine", bundle_copy)
    assert done.returncode == 2 and "decoder.weights is missing" in done.stderr and "build_engines.py" in done.stderr


@pytest.mark.parametrize("moment", ["warming up", "9 of 1000"])
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(end, moment, bundle):
    """Ctrl-C reaches all of them, `kill` and `kill -9` only the first."""
    words = [sys.executable, BENCHMARK, "--engine", bundle, "--repeats", "1000", "--wait", "0"]
    process = subprocess.Popen(
        [*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stderr:
        if moment in line:
            break
    os.killpg(process.pid, end) if end == signal.SIGINT else process.send_signal(end)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[end]
    assert "Traceback" not in messages
    for _ in range(1200):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("a worker outlived the command")
