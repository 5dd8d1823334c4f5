"""Snapdragon bundles of the demo model by the command line: on the NPU's simulator, and what refuses to run."""

import json
import shutil

import pytest
from PIL import Image

from mobilevlm import MobileVLM
from mobilevlm.engines import stages
from mobilevlm.engines.qnn import provider as qnn
from mobilevlm.engines.qnn.compile import compile_group
from mobilevlm.engines.qnn.socs import find_soc
from mobilevlm.runtime import Session
from mobilevlm.train.demo.judge import heldout, is_right, predict
from tests.conftest import BENCHMARK, BUILD, CHAT, DEMO, ROOT, run
from tests.runtime.prefix_talk import compare

PICTURE = ROOT / "assets" / "shapes.png"
QUESTION = "What color is the circle?"
SOCS = ("888", "8gen2", "8gen3", "8elite")  # v68, which shares no weights; v73, v75, v79


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Compiled for each system, and not compiled."""
    root = tmp_path_factory.mktemp("npu")
    for name, options in [*((soc, ("--soc", soc)) for soc in SOCS), ("graphs", ("--no-compile",))]:
        done = run(BUILD, "--model", DEMO, "--target", "snapdragon", *options, "--out", root / name)
        assert done.returncode == 0, done.stderr
    return root


def asked(engine, *options: str):
    return run(CHAT, "--engine", engine, "--image", PICTURE, "--prompt", QUESTION, *options)


@pytest.mark.parametrize("soc", SOCS)
def test_the_simulator_says_what_the_cpu_says_and_nothing_falls_back(bundles, soc):
    npu, cpu = asked(bundles / soc), asked(bundles / soc, "--on-cpu")
    assert npu.returncode == 0, npu.stderr
    assert npu.stdout == cpu.stdout == "The circle is red.\n"
    manifest = json.loads((bundles / soc / stages.MANIFEST_FILE).read_text())
    system = find_soc(soc)
    assert manifest["compiled"] == {"soc": system.name, "htp": str(system.htp)} | qnn.versions()
    binaries = sorted(path.name for path in (bundles / soc).glob("*.bin"))
    graphs = (
        ["decoder.0.prompt", "vision"] if system.shares_weights else ["decoder.0.prompt", "decoder.0.token", "vision"]
    )
    assert binaries == [f"{graph}.npu_qnn.bin" for graph in graphs]
    report = (bundles / soc / stages.REPORT_FILE).read_text()
    rows = [line.split("|") for line in report.split("on the NPU |")[1].splitlines() if line.startswith("| ")]
    assert len(rows) == 3 and all(row[2] == row[3] for row in rows)  # operators, and those on the NPU


def test_a_prompt_longer_than_a_chunk_and_a_second_question_give_the_same_tokens(bundles):
    """187 rows: a short chunk, a whole one, then what the cache does not hold yet."""
    said = {}
    for on_cpu in (False, True):
        with Session(bundles / "8gen3", on_cpu=on_cpu) as session:
            replies = [session.chat(text, Image.open(PICTURE)) for text in (QUESTION, "How many shapes are there?")]
            said[on_cpu] = [("".join(reply), reply.tokens) for reply in replies]
            reused = replies[1].statistics.reused_tokens
    assert said[False] == said[True]
    assert reused > 100


def test_interleaved_conversations_say_what_each_says_alone(bundles):
    compare(bundles / "graphs", on_cpu=True)


def test_it_answers_held_out_questions_like_pytorch(bundles):
    """By the graphs on the CPU, whose answers the simulator's are: 97 % of 220 in 11 kinds."""
    questions = heldout(20)
    wanted = predict(MobileVLM.from_pretrained(DEMO), [(picture, text) for picture, text, _ in questions])
    with Session(bundles / "graphs", on_cpu=True) as session:
        got = ["".join(session.chat(text, picture, max_new_tokens=24)) for picture, text, _ in questions]
    assert len(got) == 220
    assert sum(one.strip() == other.strip() for one, other in zip(wanted, got, strict=True)) >= 0.97 * len(got)
    marks = [sum(map(is_right, (q for *_, q in questions), answers)) for answers in (wanted, got)]
    assert abs(marks[0] - marks[1]) <= 2


def test_the_same_graph_gives_the_same_binary(bundles, tmp_path):
    first = bundles / "888"
    for name in ("vision.onnx", "vision.weights"):
        shutil.copy(first / name, tmp_path)
    compile_group([tmp_path / "vision.onnx"], find_soc("sm8350"))
    binary = "vision.npu_qnn.bin"
    assert (tmp_path / binary).read_bytes() == (first / binary).read_bytes()
    assert (bundles / "8gen3" / binary).read_bytes() != (first / binary).read_bytes()


def test_a_device_does_without_what_was_compiled(bundles, tmp_path):
    copy = shutil.copytree(bundles / "888", tmp_path / "copy")
    spare = json.loads((copy / stages.MANIFEST_FILE).read_text())["spare"]
    assert {"vision.onnx", "vision.weights", "decoder.0.weights"} < set(spare)
    for name in spare:
        (copy / name).unlink()
    assert asked(copy).stdout == "The circle is red.\n"
    refused = asked(copy, "--on-cpu")
    assert refused.returncode == 2 and "vision.onnx is missing" in refused.stderr
    (copy / "vision.npu_qnn.bin").unlink()
    assert "vision.npu_qnn.bin is missing" in asked(copy).stderr


def test_graphs_that_are_not_compiled_run_too(bundles):
    assert asked(bundles / "graphs").stdout == asked(bundles / "graphs", "--on-cpu").stdout == "The circle is red.\n"


def test_the_benchmark_measures_it_without_the_cpus_limits(bundles):
    quick = ["--repeats", "1", "--decode-tokens", "2", "--prompt-tokens", "150", "--wait", "0"]
    done = run(BENCHMARK, "--engine", bundles / "888", *quick)
    assert done.returncode == 0, done.stderr
    (engine,) = json.loads(done.stdout.splitlines()[-1])["engines"]
    assert {"image encode", "prefill", "TTFT", "decode after 150"} < set(engine["stages"])
    for name, stage in engine["stages"].items():
        assert stage["ms"]["median"] > 0 and stage["limit_ms"] is None, name
    assert "no profile" in run(BENCHMARK, "--engine", bundles / "888", "--profile", *quick).stderr


def test_a_newer_sdk_is_named(bundles):
    """The binary of a QAIRT from the future, whose refusal is the provider's own here for another reason."""
    with Session(bundles / "888") as session:
        runner, here = session.decoder.runner, qnn.versions()
        session.bundle.manifest.compiled["qairt"] = "99.1.0"
        newer = runner._refusal("vision", "contextCreateFromBinary failed")
        session.bundle.manifest.compiled.update(here)
        other = runner._refusal("vision", "contextCreateFromBinary failed")
    assert "QAIRT 99.1.0" in newer and here["qairt"] in newer and "pip install 'onnxruntime-qnn>=" in newer
    assert "compiled for sm8350" in other and "--soc sm8350" in other


@pytest.mark.parametrize(
    "options, said",
    [
        (["--target", "snapdragon"], "--soc 8gen3"),
        (["--target", "snapdragon", "--soc", "8gen3", "--no-compile"], "one of the two"),
        (["--target", "snapdragon", "--soc", "855"], "sm8350 (888)"),
        (["--target", "host", "--soc", "888"], "this is host"),
        (["--target", "snapdragon", "--soc", "888", "--precision", "int8"], "it has a16w8"),
    ],
)
def test_what_does_not_make_sense_is_refused(options, said, tmp_path):
    done = run(BUILD, "--model", DEMO, *options, "--out", tmp_path / "out")
    assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(tmp_path):
    """In a process that cannot find it."""
    program = (
        "import sys; sys.modules['onnxruntime_qnn'] = None; sys.argv = ['build_engines.py', '--model', sys.argv[1], "
        "'--target', 'snapdragon', '--soc', '888', '--out', sys.argv[2]]\n"
        "from mobilevlm.export.build_engines import main; main()"
    )
    done = run("-c", program, DEMO, tmp_path / "out")
    assert done.returncode == 2 and "onnxruntime-qnn" in done.stderr and "pip install" in done.stderr


def test_what_the_npu_does_not_take_is_named(tmp_path):
    """A graph of floats: the provider's own reason, and nothing left behind."""
    from mobilevlm.errors import UserError
    from tests.export.test_qdq import MODEL, write

    write(MODEL, "fp32", tmp_path)
    with pytest.raises(UserError, match="sm8350"):
        compile_group([tmp_path / "fp32.onnx"], find_soc("888"))
