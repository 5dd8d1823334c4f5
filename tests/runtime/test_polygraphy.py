"""Polygraphy's own command line on what `runtime/verify.py --polygraphy` writes: its ONNX Runtime part."""

from __future__ import annotations

import re
import shlex
import shutil
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
from mobilevlm.runtime.tensorrt.polygraphy_json import write_outputs
from tests.conftest import run
from tests.runtime.polygraphy_folders import CALLS, SLOW, VERIFY, copied, damage, reseal, step
from tests.tensorrt_double.bundles import compile_here, machine

DOWN = "model.layers.4.mlp.down_proj.weight"  # in the second of two pieces


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
    good = step(folder, "layers", "--onnxrt")
    assert good.returncode == 0, good.stdout + good.stderr
    assert good.stdout.count("Comparing Output") > 60
    value = damage(bundle, "decoder.1", DOWN)
    assert step(folder, "golden").returncode == 1
    bad = step(folder, "layers", "--onnxrt")
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
    assert done.returncode == 2 and "is damaged: its sample" in done.stderr and "or build it again" in done.stderr
