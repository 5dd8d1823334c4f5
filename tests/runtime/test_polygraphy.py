"""Polygraphy's own command line on what `runtime/verify.py --polygraphy` writes: its ONNX Runtime part, and its parser.

NVIDIA's builder is there as a wheel (`engines/tensorrt/rtx.py`), so `--trt` is tried as far as an engine that is built.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from polygraphy.comparator import RunResults
from polygraphy.json import load_json
from safetensors.numpy import load_file, save_file

from mobilevlm.engines.bundle import Bundle, amend_manifest
from mobilevlm.engines.stages import GOLDEN_FILE, IMAGE_EMBEDS, LOGITS, PIXEL_VALUES, past, weights_file
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from mobilevlm.runtime import verify
from mobilevlm.runtime.trt.polygraphy_json import write_outputs
from tests.conftest import DEMO, ROOT, build_here, run
from tests.tensorrt_double.bundles import compile_here, machine

VERIFY = ROOT / "runtime" / "verify.py"
RANDOM = ("--random-weights", "mobilevlm_v2_demo")  # of the demo's size: no calibration for int4
BUILDS = {  # by name: model, precision and pieces
    "fp16": (("--model", DEMO), "fp16", 2),
    "int4": (RANDOM, "vision=int8,decoder=int4", 1),
    "fp32": (("--model", DEMO), "fp32", 1),
    "demo int8": (("--model", DEMO), "int8", 1),
    "demo int4": (("--model", DEMO), "vision=fp16,decoder=int4", 1),
}
CALLS = {
    "fp16": ("vision", "decoder.0.prompt", "decoder.0.token", "decoder.1.prompt", "decoder.1.token"),
    "int4": ("vision", "decoder.0.prompt", "decoder.0.token"),
    "fp32": ("vision", "decoder.0.prompt", "decoder.0.token"),
    "demo int8": ("vision", "decoder.0.prompt", "decoder.0.token"),
    "demo int4": ("decoder.0.prompt", "decoder.0.token"),
}
SLOW = dict.fromkeys(("fp32", "demo int8", "demo int4"), [pytest.mark.slow])
DOWN = "model.layers.4.mlp.down_proj.weight"  # in the second of two pieces
STEPS = (
    ["golden"],
    ["golden", "--trt"],
    ["engine"],
    ["layers"],
    ["layers", "--load-outputs", "layers.json"],
    ["keep"],
    ["reduce"],
    ["reduce", "--onnxrt"],
    ["inspect"],
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By name: a bundle of the demo model for an Orin, and the folders for Polygraphy. Not to be written into."""
    root, known = tmp_path_factory.mktemp("polygraphy"), {}

    def make(name: str) -> tuple[Path, Path]:
        if name not in known:
            model, precision, pieces = BUILDS[name]
            out = root / f"{name} orin"
            options = ("--target", "orin", "--blocks", str(pieces), "--max-context", "512")
            build_here(*model, *options, precision=precision, out=out)
            known[name] = out, write(out, root / f"{name} folders")
        return known[name]

    return make


def write(bundle: Path, out: Path) -> Path:
    done = run(VERIFY, "--engine", bundle, "--polygraphy", out)
    assert done.returncode == 0, done.stderr
    return out


def step(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step of a folder's script as a person would."""
    known = {name: value for name, value in os.environ.items() if name != "BASH_ENV"}
    command = ["bash", str(folder / "polygraphy.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=known | environment)


def copied(made, name: str, root: Path) -> tuple[Path, Path]:
    """A bundle that may be damaged, and folders that were written before it was."""
    bundle = shutil.copytree(made(name)[0], root / "bundle")
    return bundle, write(bundle, root / "folders")


def damage(bundle: Path, part: str, weight: str) -> str:
    """Reverse a weight's values where they lie; the name of what is computed with it."""
    graph = onnx.load(str(bundle / f"{part}.onnx"), load_external_data=False).graph
    (tensor,) = (one for one in graph.initializer if one.name == weight)
    place = {entry.key: entry.value for entry in tensor.external_data}
    path, offset, length = bundle / place["location"], int(place["offset"]), int(place["length"])
    values = np.memmap(path, np.float16, "r+", offset, (length // 2,))
    values[:] = values[::-1].copy()
    values.flush()
    (node,) = (one for one in graph.node if weight in one.input)
    return node.output[0]


def reseal(bundle: Path, opened: Bundle, name: str) -> None:
    """Give an altered file a record that is its own, in a manifest as it was before."""
    amend_manifest(bundle, opened.manifest, [name])


def values_of(path: Path) -> dict[str, np.ndarray]:
    """What Polygraphy itself reads in a file of outputs."""
    ((_, (call,)),) = RunResults.load(str(path)).items()
    return dict(call.items())


@pytest.mark.parametrize(
    ("name", "call"),
    [pytest.param(name, call, marks=SLOW.get(name, ())) for name, calls in CALLS.items() for call in calls],
)
def test_onnx_runtime_gives_what_the_sample_says(made, name, call):
    """`polygraphy run GRAPH --onnxrt --load-inputs ... --load-outputs ...` of every stage and precision."""
    done = step(made(name)[1] / call, "golden")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"polygraphy run .*\.onnx --onnxrt .*--load-inputs inputs.json --load-outputs", done.stderr)
    assert "All outputs matched" in done.stdout and done.stdout.count("| PASSED") >= (1 if call == "vision" else 2)


def test_an_altered_value_is_seen(made, tmp_path):
    folder = shutil.copytree(made("fp16")[1] / "vision", tmp_path / "vision")
    outputs = values_of(folder / "outputs.json")
    outputs[IMAGE_EMBEDS] = outputs[IMAGE_EMBEDS] + np.float16(1)
    write_outputs(folder / "outputs.json", outputs, "somebody")
    done = step(folder, "golden")
    assert done.returncode == 1 and f"Mismatched outputs: ['{IMAGE_EMBEDS}']" in done.stdout


def test_an_altered_weight_is_seen_and_its_layer_named(made, tmp_path):
    bundle, folders = copied(made, "fp16", tmp_path)
    folder = folders / "decoder.1.token"
    assert step(folder, "keep").returncode == 0
    before = ("layers", "--load-outputs", "layers.json")
    good = step(folder, *before)
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.count("Comparing Output") > 60
    value = damage(bundle, "decoder.1", DOWN)
    assert step(folder, "golden").returncode == 1
    bad = step(folder, *before)
    assert bad.returncode == 1
    assert re.findall(r"Comparing Output: '(\w+)'", bad.stdout)[-1] == value  # where it stopped


@pytest.mark.slow
def test_reduce_ends_at_the_altered_weight(made, tmp_path):
    """A graph of one node remains, and it is the one that reads the weight: `polygraphy debug reduce`, 20 rounds."""
    bundle, folders = copied(made, "fp16", tmp_path)
    folder = folders / "decoder.1.token"
    assert step(folder, "keep").returncode == 0
    value = damage(bundle, "decoder.1", DOWN)
    done = step(folder, "reduce", "--onnxrt")
    assert done.returncode == 0, done.stdout + done.stderr
    graph = onnx.load(str(folder / "reduced.onnx")).graph
    assert [(one.op_type, list(one.output)) for one in graph.node] == [("MatMul", [value])]
    assert [one.name for one in graph.initializer] == [DOWN]
    shown = step(folder, "inspect")
    assert shown.returncode == 0 and DOWN in shown.stdout


def test_the_values_are_the_samples(made):
    """Inputs and outputs as Polygraphy reads them, beside PyTorch's in the bundle and the profiles of its engine."""
    bundle, folders = made("fp16")
    golden, opened = load_file(bundle / GOLDEN_FILE), Bundle.open(bundle)
    (picture,) = load_json(str(folders / "vision" / "inputs.json"))
    assert np.array_equal(picture[PIXEL_VALUES], golden[PIXEL_VALUES])
    embeds = values_of(folders / "vision" / "outputs.json")[IMAGE_EMBEDS]
    assert embeds.dtype == np.float16 and np.abs(embeds - golden[IMAGE_EMBEDS]).max() < 0.05
    for size, wanted in (("prompt", golden["first_logits"]), ("token", golden["logits"][-1:])):
        found = values_of(folders / f"decoder.1.{size}" / "outputs.json")[LOGITS]
        assert found.dtype == np.float32 and np.abs(found - wanted).max() < 1e-3
        for part in ("decoder.0", "decoder.1"):
            folder = folders / f"{part}.{size}"
            (inputs,) = load_json(str(folder / "inputs.json"))
            index = int(re.search(r"^profile=(\d+)", (folder / "polygraphy.sh").read_text(), re.MULTILINE)[1])
            profile = bundle_profiles(opened, part)[index]
            assert {name: value.shape for name, value in inputs.items()} == {one: profile[one][0] for one in profile}
            rows = inputs[past(opened.manifest.parts[part][0], "key")][0].any((1, 2)).sum()
            assert rows == {"prompt": 18, "token": 156}[size]  # of the sample's 145 + 8 and 4, before the call's own


def test_pieces_hand_their_rows_on(made):
    folders = made("fp16")[1]
    for size in ("prompt", "token"):
        handed = values_of(folders / f"decoder.0.{size}" / "outputs.json")["next_hidden_states"]
        (inputs,) = load_json(str(folders / f"decoder.1.{size}" / "inputs.json"))
        assert np.array_equal(handed, inputs["hidden_states"])


@pytest.mark.parametrize("call", ("vision", "decoder.0.token"))
def test_polygraphy_takes_every_option(made, call, tmp_path, monkeypatch):
    """All steps' commands go through the installed version's parser, which knows no option it renamed."""
    import polygraphy.tools
    from polygraphy.tools.base import Tool

    folder = shutil.copytree(made("int4" if call != "vision" else "fp16")[1] / call, tmp_path / call)
    for made_before in ("reduced.onnx", "layers.json"):
        (folder / made_before).write_text('{"lst": [], "polygraphy_class": "RunResults"}')
    script = folder / "polygraphy.sh"
    recorder = tmp_path / "bin" / "polygraphy"
    recorder.parent.mkdir()
    recorder.write_text(
        f'#!/usr/bin/env bash\nprintf "%s\\0" "$@" >>{shlex.quote(str(tmp_path / "said"))}\n'
        f'printf "\\1" >>{shlex.quote(str(tmp_path / "said"))}\ntouch layers.partial.json\n'
    )
    recorder.chmod(0o755)
    script.write_text(
        re.sub("^PATH=.*", f"PATH={shlex.quote(str(recorder.parent))}:$PATH", script.read_text(), flags=re.M)
    )
    for words in STEPS:
        done = step(folder, *words)
        assert done.returncode == 0, done.stderr
    said = [one.split("\0")[:-1] for one in (tmp_path / "said").read_text().split("\1")[:-1]]
    assert len(said) == len(STEPS) + 1  # keep has two
    monkeypatch.setattr(Tool, "run", lambda self, args: 0)
    monkeypatch.chdir(folder)
    checks = []
    for words in said:
        assert polygraphy.tools.main(words) == 0, words
        if "--check" in words:
            checks.append(words[words.index("--check") + 1 :])
    assert len(checks) == 2 and all(words[:2] == ["polygraphy", "run"] for words in checks)
    assert all(polygraphy.tools.main(words[1:]) == 0 for words in checks)
    assert polygraphy.tools.main(["run", "--no-such-option"]) == 1


@pytest.fixture
def rtx(tmp_path) -> dict[str, str]:
    """Settings with which Polygraphy takes TensorRT-RTX for TensorRT: its wheels bring the module by another name."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="there are wheels for Linux and Windows alone")
    lines = "from tensorrt_rtx_bindings import *\nfrom tensorrt_rtx_bindings import __version__\n"
    (tmp_path / "rtx").mkdir()
    (tmp_path / "rtx" / "tensorrt_rtx.py").write_text(lines)
    paths = [str(tmp_path / "rtx"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"POLYGRAPHY_USE_TENSORRT_RTX": "1", "PYTHONPATH": os.pathsep.join(paths)}


@pytest.mark.parametrize(
    ("name", "call", "words"),
    [
        ("fp16", "vision", ["golden", "--trt"]),
        ("fp16", "decoder.1.prompt", ["golden", "--trt"]),
        ("fp16", "decoder.0.token", ["layers"]),
        ("int4", "vision", ["layers"]),
        ("int4", "decoder.0.token", ["layers"]),
    ],
)
def test_nvidias_builder_makes_the_engine(made, rtx, name, call, words):
    """`--trt` gets as far as an engine; loading one takes a GPU."""
    done = step(made(name)[1] / call, *words, **rtx)
    said = done.stdout + done.stderr
    assert "Finished engine building" in said, said
    assert "buildSerializedNetwork: Error" not in said


def test_the_scripts_are_sound(made):
    program = shutil.which("shellcheck") or shutil.which("shellcheck", path=os.path.dirname(sys.executable))
    assert program, "pip install '.[dev]' brings shellcheck"
    scripts = sorted(made("fp16")[1].glob("*/polygraphy.sh"))
    assert len(scripts) == len(CALLS["fp16"])
    done = subprocess.run([program, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_what_a_script_refuses(made, tmp_path):
    folder = shutil.copytree(made("fp16")[1] / "vision", tmp_path / "vision")
    for words, message in (
        ([], "bash polygraphy.sh STEP"),
        (["speed"], "bash polygraphy.sh STEP"),
        (["inspect"], "there is no reduced.onnx yet: bash polygraphy.sh reduce"),
    ):
        done = step(folder, *words)
        assert done.returncode == 2 and message in done.stderr
    script = folder / "polygraphy.sh"
    text = script.read_text()
    script.write_text(re.sub(r"^bytes=\d+", "bytes=2147483648", text, flags=re.MULTILINE))
    done = step(folder, "layers")
    assert done.returncode == 2 and "build_engines.py --blocks N" in done.stderr
    script.write_text(re.sub("^bundle=.*", "bundle=/nonexistent", text, flags=re.MULTILINE))
    done = step(folder, "golden")
    assert done.returncode == 2 and "copy the whole bundle" in done.stderr


def test_what_verify_refuses(made, bundle, tmp_path):
    for engine, words, message in (
        (bundle, ["--polygraphy", tmp_path / "out"], "is for target host, which has no TensorRT graphs"),
        (bundle, ["--stages", "vision"], "--stages goes with --polygraphy FOLDER"),
    ):
        done = run(VERIFY, "--engine", engine, *words)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    copy = shutil.copytree(made("fp16")[0], tmp_path / "board")
    (copy / "vision.float32.onnx").unlink()
    amend_manifest(copy, Bundle.open(made("fp16")[0]).manifest, [], spare=["vision.float32.onnx"])
    done = run(VERIFY, "--engine", copy, "--polygraphy", tmp_path / "out")
    assert done.returncode == 2 and "a board does without" in done.stderr
    assert not (tmp_path / "out").exists()


def test_values_that_are_not_the_builds_are_not_handed_out(made, tmp_path):
    """Files that compute something else cannot be what a device is compared with."""
    bundle = shutil.copytree(made("fp16")[0], tmp_path / "bundle")
    damage(bundle, "decoder.1", DOWN)
    reseal(bundle, Bundle.open(made("fp16")[0]), weights_file("decoder.1"))
    done = run(VERIFY, "--engine", bundle, "--polygraphy", tmp_path / "out")
    assert done.returncode == 2 and "computes something else here" in done.stderr and not (tmp_path / "out").exists()


def test_a_stage_that_fails_on_the_device_leads_to_the_script(made, tmp_path, capsys):
    """The decoder's engine is not the graph's, as after a wrong kernel: verify.py says what to run, and that runs."""
    bundle, _ = copied(made, "fp16", tmp_path)
    other = shutil.copytree(bundle, tmp_path / "other")
    damage(other, "decoder.1", DOWN)
    reseal(other, Bundle.open(bundle), weights_file("decoder.1"))
    with machine():
        compiled = compile_here(bundle)
        compile_here(other)
        shutil.copyfile(other / "decoder.1.engine", bundle / "decoder.1.engine")
        reseal(bundle, compiled, "decoder.1.engine")
        with pytest.raises(SystemExit) as ended:
            verify.main(["--engine", str(bundle)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    (line,) = re.findall("^To find the layer that differs: (.*)$", said, re.MULTILINE)
    command = shlex.split(line)
    assert command[:2] == ["python", "runtime/verify.py"] and command[-2:] == ["--stages", "decoder"]
    done = run(*command[1:])
    assert done.returncode == 0, done.stderr
    folders = Path(f"{bundle}-polygraphy")
    assert sorted(path.name for path in folders.iterdir()) == sorted(CALLS["fp16"][1:])
    assert (
        done.stdout.splitlines()[0] == f"bash {shlex.quote(str(folders / 'decoder.0.prompt' / 'polygraphy.sh'))} golden"
    )
    assert step(folders / "decoder.1.token", "golden").returncode == 0  # the graph is right: the engine is not


def test_a_sample_that_another_version_wrote(made, tmp_path):
    bundle = shutil.copytree(made("fp16")[0], tmp_path / "bundle")
    golden = load_file(bundle / GOLDEN_FILE)
    del golden["input_ids"]
    save_file(golden, bundle / GOLDEN_FILE)
    reseal(bundle, Bundle.open(made("fp16")[0]), GOLDEN_FILE)
    done = run(VERIFY, "--engine", bundle, "--polygraphy", tmp_path / "out")
    assert done.returncode == 2 and "Build the bundle again" in done.stderr
