"""The phone kit: its folder, and its script run against a stand-in for the phone.

There is no phone here. `adb` is a double: its phone is a directory, its shell is this machine's, and the benchmark
program it runs is a script that prints what ONNX Runtime's prints (onnxruntime/test/perftest/performance_runner.cc). So
what is shown is that the script pushes, runs, reads and refuses as it says; not how fast a phone is.
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import onnxruntime as ort
import pytest

from mobilevlm.engines import stages
from mobilevlm.engines.bundle import MANIFEST_FILE, Bundle, seal_of
from mobilevlm.export.phone.kit import NPU_LIBRARIES
from tests.conftest import DEMO, ROOT, build, run

KIT = ROOT / "export" / "phone_kit.py"
ADB = """#!/usr/bin/env bash
# The phone is the directory $FAKE_PHONE.
echo "adb $*" >>"$FAKE_PHONE/calls"
there() { sed "s#/data/local/tmp#$FAKE_PHONE/data#g" <<<"$1"; }
case $1 in
    get-state) [ -e "$FAKE_PHONE/state" ] || { echo "error: no devices/emulators found" >&2; exit 1; }
        cat "$FAKE_PHONE/state" ;;
    shell) shift; PATH=$FAKE_PHONE/system:$PATH exec sh -c "$(there "$*")" ;;
    push) mkdir -p "$(there "$3")" && cp -R "$2" "$(there "$3")" ;;
    pull) cp "$(there "$2")" "$3" ;;
    *) echo "unknown command $1" >&2; exit 1 ;;
esac
"""
PERF_TEST = """#!/bin/sh
echo "$*" >>"$FAKE_PHONE/runs"
for graph in "$@"; do :; done
case "$*" in
    *xnnpack*) [ -e "$FAKE_PHONE/no-xnnpack" ] && { echo "Xnnpack is not supported in this build"; exit 1; } ;;
esac
[ -e "$FAKE_PHONE/sleep" ] && sleep 20
echo "Session creation time cost: 0.41 s
First inference time cost: 91 ms
Total inference time cost: 1.3 s
Average inference time cost: 65.2 ms
Peak working set size: 123456789 bytes"
awk -v graph="$graph" '$1 == graph { print "Min Latency: 0.001 s\\nP50 Latency: " $2 " s\\nP95 Latency: " $3 " s" }' \\
    "$FAKE_PHONE/latencies"
"""
PHONE = {
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.model": "Test Phone 12",
    "ro.build.version.release": "15",
    "ro.soc.model": "SM8650",
}


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def phone(tmp_path):
    """The double, connected; its latencies are a line each: graph, median, 95th percentile in seconds."""
    directory = tmp_path / "phone"
    program(tmp_path / "tools" / "adb", ADB)
    program(directory / "system" / "nproc", "#!/bin/sh\necho 8\n")
    (directory / "state").write_text("device\n")
    (directory / "runs").touch()
    tell(directory)
    return directory


def tell(phone, **changed):
    """What getprop says."""
    values = PHONE | {name.replace("_", "."): value for name, value in changed.items()}
    cases = "".join(f"{name}) echo '{value}' ;;\n" for name, value in values.items())
    program(phone / "system" / "getprop", f"#!/bin/sh\ncase $1 in\n{cases}esac\n")


def binaries(directory, *libraries):
    program(directory / "onnxruntime_perf_test", PERF_TEST)
    for name in ("libonnxruntime.so", *libraries):
        (directory / name).touch()
    return directory


def measure(kit, phone, *words, **keywords):
    path = f"{phone.parent / 'tools'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "FAKE_PHONE": str(phone)}
    command = ["bash", str(kit / "run.sh"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, **keywords)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """The demo model in float32 for an Arm CPU."""
    root = tmp_path_factory.mktemp("engines")
    done = build("--model", DEMO, "--target", "snapdragon-cpu", out=root / "cpu")
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def cpu_kit(engines):
    done = run(KIT, "--engine", engines / "cpu", "--out", engines / "kit")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{engines / 'kit'}\n" and "run.sh BINARIES" in done.stderr
    return engines / "kit"


def test_scripts_are_sound():
    script = ROOT / "export" / "phone" / "run.sh"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    assert shellcheck, "pip install '.[dev]' brings shellcheck"
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_graphs_are_the_decoders_of_fixed_sizes(engines, cpu_kit):
    """A prompt, and a token behind it, give the same logits as the bundle's own graph."""
    assert sorted(path.name for path in (cpu_kit / "graphs").iterdir()) == [
        "decoder.prompt.onnx",
        "decoder.token.onnx",
        "decoder.weights",
        "vision.onnx",
        "vision.weights",
    ]
    config = Bundle.open(engines / "cpu").config
    rows = np.random.default_rng(0).standard_normal((1, 129, config.hidden_size)).astype(np.float32)

    def logits(path, embeds, caches, **positions):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        values = session.run(None, {stages.INPUTS_EMBEDS: embeds} | caches | positions)
        return dict(zip([one.name for one in session.get_outputs()], values, strict=True))

    def caches(count, old=None):
        shape = (1, config.num_key_value_heads, count, config.head_dim)
        found = {}
        for layer in range(config.num_hidden_layers):
            for part in stages.CACHE_PARTS:
                found[stages.past(layer, part)] = buffer = np.zeros(shape, np.float32)
                if old:
                    kept = old[stages.present(layer, part)]
                    buffer[:, :, : kept.shape[2]] = kept
        return found

    prompt = logits(cpu_kit / "graphs" / "decoder.prompt.onnx", rows[:, :128], caches(128))
    token = logits(cpu_kit / "graphs" / "decoder.token.onnx", rows[:, 128:], caches(129, prompt))
    own = {"seqlens_k": np.array([128], np.int32), "total_sequence_length": np.array(129, np.int32)}
    whole = logits(engines / "cpu" / "decoder.onnx", rows, caches(config.max_position_embeddings), **own)
    np.testing.assert_allclose(token[stages.LOGITS], whole[stages.LOGITS], atol=1e-4)


def test_they_run_on_inputs_that_the_program_makes_up(cpu_kit):
    """`-I`: zeros, of the sizes that the graph has; one that is not known would be 1."""
    for name in ("vision", "decoder.prompt", "decoder.token"):
        session = ort.InferenceSession(str(cpu_kit / "graphs" / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        assert all(isinstance(size, int) for one in session.get_inputs() for size in one.shape)
        outputs = session.run(None, {one.name: np.zeros(one.shape, np.float32) for one in session.get_inputs()})
        assert all(np.isfinite(output).all() for output in outputs)


def test_the_table_is_what_the_program_said(cpu_kit, phone, tmp_path):
    (phone / "latencies").write_text(
        "vision.onnx 0.0821 0.0907\ndecoder.prompt.onnx 0.25 0.3\ndecoder.token.onnx 0.0125 0.02\n"
    )
    done = measure(cpu_kit, phone, binaries(tmp_path / "bin"), 7)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:7] == "demo for snapdragon-cpu on Test Phone 12".split() and "7 runs" in done.stdout
    assert ["image", "encode", "82.100", "90.700"] in lines
    assert ["prompt", "(128", "rows)", "250.000", "300.000"] in lines
    assert ["token", "12.500", "20.000"] in lines and ["tokens/s", "80.00"] in lines
    report = json.loads((cpu_kit / "results" / "report.json").read_text())
    assert report["milliseconds"]["token"] == {"median": 12.5, "p95": 20.0, "provider": "cpu"}
    assert report["milliseconds"]["image_encode"]["provider"] == "xnnpack"
    assert report["tokens_per_second"] == 80.0 and report["repeats"] == 7
    assert report["phone"] == {"model": "Test Phone 12", "soc": "sm8650", "android": "15"}
    assert (cpu_kit / "results" / "table.txt").read_text() == done.stdout
    assert "Average inference time cost" in (cpu_kit / "results" / "vision.onnx.txt").read_text()
    assert (phone / "runs").read_text().splitlines() == [
        "-e xnnpack -x 8 -I -m times -r 7 vision.onnx",
        "-e cpu -I -m times -r 7 decoder.prompt.onnx",
        "-e cpu -I -m times -r 7 decoder.token.onnx",
    ]
    assert sorted(path.name for path in (phone / "data" / "mobilevlm" / "demo-snapdragon-cpu" / "graphs").iterdir())


def test_without_xnnpack_the_cpu_provider_is_measured_and_it_is_said(cpu_kit, phone, tmp_path):
    (phone / "latencies").write_text("vision.onnx 1 1\ndecoder.prompt.onnx 1 1\ndecoder.token.onnx 1 1\n")
    (phone / "no-xnnpack").touch()
    done = measure(cpu_kit, phone, binaries(tmp_path / "bin"))
    assert done.returncode == 0 and "no XNNPACK here (Xnnpack is not supported in this build" in done.stderr
    report = json.loads((cpu_kit / "results" / "report.json").read_text())
    assert report["milliseconds"]["image_encode"]["provider"] == "cpu" and report["repeats"] == 20


def test_what_is_missing_is_said_in_a_sentence(cpu_kit, phone, tmp_path):
    ready = binaries(tmp_path / "bin")
    refusals = [
        (measure(cpu_kit, phone), "which folder holds onnxruntime_perf_test libonnxruntime.so"),
        (measure(cpu_kit, phone, tmp_path), "lacks onnxruntime_perf_test libonnxruntime.so: .*README.txt says where"),
        (measure(cpu_kit, phone, ready, "many"), "REPEATS is many; it is a number of runs"),
    ]
    (phone / "latencies").write_text("vision.onnx 1 1\n")
    refusals.append((measure(cpu_kit, phone, ready), "printed no P50 Latency for decoder.prompt.onnx"))
    tell(phone, ro_product_cpu_abi="x86_64")
    refusals.append((measure(cpu_kit, phone, ready), "the phone is x86_64, the graphs are for arm64-v8a"))
    (phone / "state").write_text("unauthorized\n")
    refusals.append((measure(cpu_kit, phone, ready), "adb says that the phone is unauthorized: unlock it"))
    (phone / "state").unlink()
    refusals.append((measure(cpu_kit, phone, ready), "adb reaches no phone .error: no devices/emulators found."))
    (tmp_path / "tools" / "adb").unlink()
    refusals.append((measure(cpu_kit, phone, ready), "adb is not installed: it is part of Android's platform-tools"))
    for done, message in refusals:
        assert done.returncode == 2 and re.search(message, done.stderr), done.stderr
        assert done.stderr.splitlines()[-1].startswith("run.sh: ")
    assert not list(cpu_kit.glob(".results*"))


def test_ctrl_c_leaves_the_last_results(cpu_kit, phone, tmp_path):
    shutil.rmtree(cpu_kit / "results", ignore_errors=True)
    (cpu_kit / "results").mkdir()
    (cpu_kit / "results" / "report.json").write_text("kept")
    (phone / "sleep").touch()
    environment = os.environ | {"PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}", "FAKE_PHONE": str(phone)}
    command = ["bash", str(cpu_kit / "run.sh"), str(binaries(tmp_path / "bin"))]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 30
    while not (phone / "runs").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(cpu_kit.glob(".results*"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the script and what it runs
    assert process.wait(timeout=30) != 0
    assert not list(cpu_kit.glob(".results*"))
    assert (cpu_kit / "results" / "report.json").read_text() == "kept"


def altered(bundle, **changes):
    """A bundle whose manifest says something else."""
    path = bundle / MANIFEST_FILE
    changed = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(changed | {"seal": seal_of(changed)}))
    return bundle


def test_bundles_a_phone_does_not_run_are_refused(bundle_copy, tmp_path):
    for target, message in (("host", "is for host, and a phone runs snapdragon"), ("snapdragon", "with --no-compile")):
        done = run(
            KIT, "--engine", altered(bundle_copy, target=target, parts={"decoder.0": [0, 3]}), "--out", tmp_path / "kit"
        )
        assert done.returncode == 2 and message in done.stderr and "build_engines.py --model DIR" in done.stderr
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "thesis.tex").touch()
    done = run(KIT, "--engine", altered(bundle_copy, target="snapdragon-cpu"), "--out", tmp_path / "kit")
    assert done.returncode == 2 and "choose another --out" in done.stderr.lower()
    assert [path.name for path in (tmp_path / "kit").iterdir()] == ["thesis.tex"]


def test_a_compiled_bundle_goes_without_what_the_npu_does_without_and_only_to_its_system(phone, tmp_path):
    """The demo model, really compiled for Snapdragon 8 Gen 3."""
    done = run(ROOT / "export" / "build_engines.py", "--model", DEMO, "--target", "snapdragon", "--soc", "8gen3",
               "--out", tmp_path / "npu")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run(KIT, "--engine", tmp_path / "npu", "--out", tmp_path / "kit")
    assert done.returncode == 0, done.stderr
    kit, spare = tmp_path / "kit", set(Bundle.open(tmp_path / "npu").manifest.spare)
    names = {path.name for path in (kit / "graphs").iterdir()}
    assert names and not names & spare
    graphs = ["vision.npu.onnx", "decoder.0.prompt.npu.onnx", "decoder.0.token.npu.onnx"]
    assert names == {*graphs, "vision.npu_qnn.bin", "decoder.0.prompt.npu_qnn.bin"}
    libraries = [*NPU_LIBRARIES, "libQnnHtpV75Stub.so", "libQnnHtpV75Skel.so"]
    lacking = measure(kit, phone, binaries(tmp_path / "half"))
    assert lacking.returncode == 2 and "lacks " + " ".join(libraries) in lacking.stderr
    ready = binaries(tmp_path / "bin", *libraries)
    (phone / "latencies").write_text("".join(f"{graph} 0.01 0.02\n" for graph in graphs))
    tell(phone, ro_soc_model="SM8550")
    refused = measure(kit, phone, ready)
    assert refused.returncode == 2 and not (phone / "runs").read_text()
    assert "the phone is sm8550, the graphs are compiled for sm8650 (Snapdragon 8gen3, HTP v75)" in refused.stderr
    tell(phone, ro_soc_model="SM8650-AC")
    done = measure(kit, phone, ready)
    assert done.returncode == 0 and ["tokens/s", "100.00"] in [line.split() for line in done.stdout.splitlines()]
    for line in (phone / "runs").read_text().splitlines():
        assert "--plugin_eps QNNExecutionProvider" in line and "session.disable_cpu_ep_fallback|1" in line
        assert f"QNNExecutionProvider|{phone}/data/mobilevlm/demo-snapdragon/bin/{NPU_LIBRARIES[0]}" in line
    tell(phone, ro_soc_model="")
    assert "does not say which system it has" in measure(kit, phone, ready).stderr
