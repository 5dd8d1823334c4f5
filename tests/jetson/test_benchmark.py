"""benchmark.py on a host bundle of the demo model, and its measuring on a board's tree; compare.py on its runs."""

import json
import sys
import threading

import numpy as np
import pytest

from mobilevlm.engines.bundle import Bundle
from mobilevlm.jetson import compare
from mobilevlm.jetson.board import read_board
from mobilevlm.jetson.measure import BoardRun, Window, measure
from mobilevlm.jetson.modules import MODULES
from mobilevlm.jetson.power import Sample
from mobilevlm.jetson.results import BoardStage, energies, energy_lines
from mobilevlm.jetson.roofline import Hardware, paper_limits
from mobilevlm.jetson.throttling import Throttling
from mobilevlm.runtime.bench.plan import Plan, make_plan
from mobilevlm.runtime.bench.ratios import unpaired_ratio
from mobilevlm.runtime.bench.rounds import Measured
from mobilevlm.runtime.bench.stages import StageTimes
from mobilevlm.runtime.bench.timed_bundle import TimedBundle
from mobilevlm.runtime.bench.workers import Worker
from tests.conftest import ROOT, run
from tests.jetson.trees import NANO_MONITOR, clock, out_of_the_box, write

BENCHMARK, COMPARE = ROOT / "jetson" / "benchmark.py", ROOT / "jetson" / "compare.py"
QUICK = ["--repeats", 3, "--decode-tokens", 4, "--prompt-tokens", 160, "--answers-seconds", 0.3]
CONTEXTS = [160, 512, 1024, 2044]
NOTHING = Throttling((), (), None, None)


@pytest.fixture(scope="module")
def demo(demo_fp32):
    return demo_fp32


@pytest.fixture(scope="module")
def plotted(tmp_path_factory):
    return tmp_path_factory.mktemp("plots") / "answer.png"


@pytest.fixture(scope="module")
def done(demo, plotted):
    """One run, with an AGX Orin's limits beside it."""
    files = ["--plot", plotted, "--save", plotted.with_suffix(".json")]
    return run(BENCHMARK, "--engine", demo, "--board", "agx-orin-64", *files, *QUICK)


@pytest.fixture(scope="module")
def result(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_stage_with_its_figures(result):
    once = ["load", "load and first TTFT", "image encode", "prefill", "TTFT", "TTFT of a session"]
    assert list(result["stages"]) == [*once, *(f"decode after {n}" for n in CONTEXTS)]
    for name, stage in result["stages"].items():
        assert len(stage["each_ms"]) == (3 * 4 if name.startswith("decode") else 1 if name in once[:2] else 3)
        assert stage["median_ms"] == pytest.approx(np.median(stage["each_ms"]))
        assert 0 < min(stage["each_ms"]) <= stage["median_ms"] <= stage["p95_ms"] <= max(stage["each_ms"])
        assert ("tokens_per_s" in stage) == name.startswith("decode")
    parts = (result["stages"][name]["each_ms"] for name in ("image encode", "prefill", "TTFT"))
    assert all(encode + prefill <= ttft for encode, prefill, ttft in zip(*parts, strict=True))


def test_limits_are_the_paper_models(result, demo):
    """Of every stage but loading and a session's."""
    bundle = Bundle.open(demo)
    agx = Hardware(MODULES["agx-orin-64"])
    expected = paper_limits(agx, bundle.config, bundle.manifest.forms, 160, tuple(CONTEXTS))
    shown = {name: stage["limit"]["ms"] for name, stage in result["stages"].items() if stage["limit"]}
    assert shown == {name: pytest.approx(limit.ms) for name, limit in expected.items()}
    for stage in result["stages"].values():
        if stage["limit"]:
            assert stage["of_limit"] == pytest.approx(stage["limit"]["ms"] / stage["median_ms"])
    assert result["limits_of"] == {"module": "agx-orin-64", "gpu_mhz": None, "emc_mhz": None}
    decode = [one["value"] for one in result["stages"]["decode after 160"]["references"]]
    assert decode == [65.3, 38.3, 98.4]


def test_what_belongs_beside_a_figure(result, demo):
    assert result["versions"]["python"] == sys.version.split()[0] and "onnxruntime" in result["versions"]
    assert result["engine"]["precision"] == {"vision": "fp32", "decoder": "fp32"}
    assert result["engine"]["seal"] == json.loads((demo / "bundle.json").read_text())["seal"]
    assert result["plan"] == {"prompt_tokens": 160, "decode_tokens": 4, "contexts": CONTEXTS}
    assert len(result["session"]) == 3
    for answer in result["session"]:  # every one about another picture: nothing comes from a cache
        assert answer["image_encode_ms"] > 1 and answer["prompt_tokens"] > 144 and answer["new_tokens"] > 0
        assert answer["image_encode_ms"] + answer["prefill_ms"] < answer["ttft_ms"]
    assert result["memory"]["peak_rss_full_mib"] >= result["memory"]["peak_rss_mib"] > 30
    assert result["memory"]["system_mib"] is not None


@pytest.mark.skipif(read_board().is_jetson, reason="this is a Jetson")
def test_what_there_is_not_is_said(result, done):
    assert result["energy"] == [] and "joules are not known" in done.stdout
    assert result["board"]["module"] is None and "this machine is not one" in done.stdout
    assert "throttling: could not see the GPU's clock at work" in done.stdout


def test_people_get_a_table_and_progress(done):
    for words in ("limit ms, on paper", "| decode after 512", "published: decode 65.3 tokens/s", "memory: process"):
        assert words in done.stdout
    assert "repetition 3 of 3" in done.stderr and "Traceback" not in done.stderr


def test_what_is_saved_is_what_was_printed(result, plotted):
    saved_file = plotted.with_suffix(".json")
    assert json.loads(saved_file.read_text()) == result
    assert compare.read_run(str(saved_file)) == result


def test_the_plot_is_a_picture(result, plotted):
    from PIL import Image

    with Image.open(plotted) as picture:
        assert picture.width > 500 and len(set(picture.convert("L").tobytes())) > 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--repeats", 0], "at least one repetition"),
        (["--prompt-tokens", 7], "--prompt-tokens is 7"),
        (["--plot", "no/such/folder/a.png"], "there is no folder"),
        (["--save", "no/such/folder/a.json"], "there is no folder"),
    ],
)
def test_mistakes_are_told_before_measuring(demo, words, message):
    done = run(BENCHMARK, "--engine", demo, *words)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and "repetition 1" not in done.stderr


def test_no_bundle(tmp_path):
    done = run(BENCHMARK, "--engine", tmp_path / "none")
    assert done.returncode == 2 and "there is no engine bundle" in done.stderr


def test_on_a_boards_tree(demo, tmp_path):
    """Rails of 6 W, then 9 W from the middle of it on; the GPU drops from its locked clock; events are counted."""
    root = out_of_the_box(tmp_path)
    clock(root, 612, 612, 612)
    write(root, "sys/devices/platform/gpu.0/load", 900)
    said = []

    def tell(text):
        said.append(text)
        if text.startswith("answers in a row"):
            write(root, f"{NANO_MONITOR}/curr1_input", 1800)
            clock(root, 408, 612, 612)
            write(root, "sys/class/hwmon/hwmon3/oc3_event_cnt", 40)

    plan = make_plan([Bundle.open(demo)], 160, 4)
    with Worker("demo", TimedBundle, demo, plan) as worker:
        measured = measure(worker, 1, tell, 1.0, root)
    assert said[0].startswith("idle") and len(measured.bundle.repetitions) == 1
    module, compute = energies(measured)
    assert (module.name, module.rails) == ("module", ("VDD_IN",))
    assert compute.rails == ("VDD_CPU_GPU_CV", "VDD_SOC")
    assert module.idle_w == pytest.approx(6.0) and compute.idle_w == pytest.approx(2.748)
    assert module.answering_w == pytest.approx(9.0, rel=0.02)
    seconds = measured.answering.end_s - measured.answering.begin_s
    assert module.joules_per_answer == pytest.approx(module.answering_w * seconds / measured.answering.answers)
    assert seconds >= 1.0 and measured.answering.answers > 1
    assert any("down to 408 MHz (it was locked there" in sentence for sentence in measured.throttling.noticed)
    assert any("3 over-current events (oc3)" in sentence for sentence in measured.throttling.noticed)
    assert measured.throttling.unseen == ()
    assert not any(thread.name == "power" for thread in threading.enumerate())


def test_joules_of_an_answer_by_hand():
    """10 W for 4 s while 8 answers were given are 5 J each; 4 W before."""
    samples = [Sample(t / 10, {"VDD_IN": 4000.0 if t < 20 else 10000.0}) for t in range(61)]
    measured = BoardRun(Measured(), [], None, samples, Window(0.0, 1.9), Window(2.0, 6.0, 8), NOTHING)
    (energy,) = energies(measured)
    assert (energy.idle_w, energy.answering_w) == (pytest.approx(4.0), pytest.approx(10.0))
    assert energy.joules_per_answer == pytest.approx(5.0)
    (line,) = energy_lines([energy], measured.answering, Plan(204, 32, (204,)))
    assert line == (
        "energy, module (VDD_IN): 5.00 J for an answer of 33 tokens to a prompt of 204, "
        "10.0 W over 8 answers, 4.0 W idle"
    )


def test_a_rail_that_goes_away_gives_no_joules():
    samples = [Sample(t / 10, {"VDD_IN": 4000.0} if t != 30 else {}) for t in range(61)]
    measured = BoardRun(Measured(), [], None, samples, Window(0.0, 1.9), Window(2.0, 6.0, 8), NOTHING)
    assert energies(measured) == []


def test_p95_is_of_all_tokens():
    stage = BoardStage(StageTimes("decode after 204", (tuple(range(1, 101)),), 204), None, ())
    assert (stage.median_ms, stage.p95_ms) == (50.5, pytest.approx(95.05))
    assert stage.cells() == ["decode after 204", "50.50", "95.05", "19.8", "-", "-"]


def saved(path, result, **changes):
    """A file as `benchmark.py | tee` leaves it, with changes by path."""
    document = json.loads(json.dumps(result))
    for place, value in changes.items():
        *folders, last = place.split("__")
        target = document
        for folder in folders:
            target = target[folder]
        target[last] = value
    path.write_text("a table\n\n" + json.dumps(document) + "\n")
    return path


def test_a_run_and_one_of_twice_the_time(result, tmp_path):
    slower = [2 * ms for ms in result["stages"]["prefill"]["each_ms"]]
    first = saved(tmp_path / "a.txt", result)
    second = saved(tmp_path / "b.txt", result, stages__prefill__each_ms=slower, versions__tensorrt="10.3.0")
    done = run(COMPARE, first, second)
    assert done.returncode == 0, done.stderr
    rows = {line.split("|")[1].strip(): line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")}
    assert float(rows["prefill"][4]) == 2.0 and float(rows["image encode"][4]) == 1.0
    assert "differs: TensorRT: unknown against 10.3.0" in done.stdout


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("board__power_mode", "15W", "power mode: unknown against 15W"),
        ("board__module", "orin-nx-16", "board: unknown against orin-nx-16"),
        ("board__gpu_clock", {"now": 1, "lowest": 306, "highest": 612}, "highest GPU clock, MHz: unknown against 612"),
        ("board__emc_clock", {"now": 1, "highest": 2133}, "highest memory clock, MHz: unknown against 2133"),
        ("plan__prompt_tokens", 204, "prompt tokens: 160 against 204"),
    ],
)
def test_runs_that_were_not_measured_alike(place, value, message, result, tmp_path):
    if read_board().is_jetson:
        pytest.skip("this is a Jetson, nothing of it is unknown")
    first, second = saved(tmp_path / "a.txt", result), saved(tmp_path / "b.txt", result, **{place: value})
    refused = run(COMPARE, first, second)
    assert (
        refused.returncode == 2 and refused.stdout == "" and message in refused.stderr and "--across" in refused.stderr
    )
    done = run(COMPARE, "--across", first, second)
    assert done.returncode == 0 and f"differs: {message}" in done.stdout and "| prefill" in done.stdout


def test_energy_of_other_rails_is_not_compared(result, tmp_path):
    one = {"name": "module", "rails": ["VDD_IN"], "idle_w": 4.0, "answering_w": 10.0, "joules_per_answer": 5.0}
    less = one | {"joules_per_answer": 3.0}
    other = less | {"rails": ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]}
    first = saved(tmp_path / "a.txt", result, energy=[one])
    second = saved(tmp_path / "b.txt", result, energy=[less], throttling__noticed=["it was hot"])
    done = run(COMPARE, first, second)
    assert "| module (VDD_IN)  | 5.00 | 3.00 | 0.600 |" in done.stdout and "B was throttled: it was hot" in done.stdout
    done = run(COMPARE, first, saved(tmp_path / "c.txt", result, energy=[other]))
    assert "joules" not in done.stdout and done.returncode == 0


def test_intervals_of_ratios():
    draws = np.random.default_rng(3)
    found = unpaired_ratio("decode", draws.normal(10, 0.1, 40), draws.normal(12, 0.1, 50))
    assert found.low < 1.2 < found.high and found.low < found.ratio < found.high and found.high - found.low < 0.02
    once = unpaired_ratio("load", [5.0], [10.0])
    assert (once.ratio, once.low, once.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "does not end in the line of JSON"), ("| table |", "does not end"), ('{"format": 9}', "has format 9")],
)
def test_files_that_are_no_run(text, message, result, tmp_path):
    (tmp_path / "b.txt").write_text(text)
    done = run(COMPARE, saved(tmp_path / "a.txt", result), tmp_path / "b.txt")
    assert done.returncode == 2 and message in done.stderr
    assert "there is no file" in run(COMPARE, tmp_path / "a.txt", tmp_path / "none").stderr
