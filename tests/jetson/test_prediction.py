"""What the doctor predicts of a bundle: on the demo's own, built here, and on the published sizes by their figures."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import replace

import pytest

from mobilevlm.engines.bundle import Bundle, Manifest
from mobilevlm.engines.stages import decoder_parts, engine_file, weights_file
from mobilevlm.engines.tensorrt.devices import SPARE_BYTES
from mobilevlm.export import build_engines
from mobilevlm.jetson import doctor
from mobilevlm.jetson.board import read_board
from mobilevlm.jetson.footprint import BUILD_PER_WEIGHT, PROFILE_BYTES, build_bytes, footprint
from mobilevlm.jetson.prediction import predict
from mobilevlm.jetson.roofline import PAPER, decoder_bytes, vision_bytes
from mobilevlm.model.projectors import num_image_tokens
from mobilevlm.presets import PRESETS
from tests.conftest import DEMO, ROOT, build_here, run
from tests.jetson.trees import boot, in_order, jetpack_6_2_2, meminfo, write
from tests.tensorrt_double.bundles import compile_here, machine

DOCTOR = ROOT / "jetson" / "doctor.py"
COMMAND = "python export/build_engines.py --model DIR --target {} --precision {} --out OUT --overwrite"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo model for an Orin Nano, in two pieces."""
    out = tmp_path_factory.mktemp("orin") / "demo"
    return build_here("--model", DEMO, "--target", "orin-nano", "--blocks", "2", precision="fp16", out=out)


@pytest.fixture
def demo_copy(demo, tmp_path):
    return shutil.copytree(demo, tmp_path / "demo")


def published(model, target="orin-nano", precision="fp16", pieces=1, context=1024) -> Bundle:
    """A bundle of the published size, as its manifest would describe it; its weights' sizes are those on paper."""
    config = PRESETS[f"mobilevlm_v2_{model}"]
    parts = {
        name: [layers.start, layers.stop] for name, layers in decoder_parts(config.num_hidden_layers, pieces).items()
    }
    head = config.vocab_size * config.hidden_size * 2
    layers = (decoder_bytes(config, PAPER[precision]) - head) / config.num_hidden_layers
    sizes = {"vision": vision_bytes(config, PAPER["fp16"])} | {
        name: layers * len(range(*at)) for name, at in parts.items()
    }
    sizes[f"decoder.{pieces - 1}"] += head
    files = {weights_file(name): {"size": int(size), "sha256": ""} for name, size in sizes.items()}
    files |= {f"{name}.onnx": {"size": 1, "sha256": ""} for name in sizes}
    precisions = {"vision": "fp16", "decoder": precision}
    command = COMMAND.format(target, ",".join(f"{stage}={name}" for stage, name in precisions.items()))
    manifest = Manifest(
        model,
        config.to_dict(),
        target,
        "strided",
        precisions,
        context,
        num_image_tokens(config),
        command,
        {},
        {},
        files,
        parts,
        forms={stage: PAPER[name] for stage, name in precisions.items()},
    )
    return Bundle(ROOT / "artifacts" / "nowhere", manifest, config)


def predicted(root, bundle) -> dict:
    return {one.name: one for one in predict(doctor.look_at(root, read_board(root)), bundle)}


# ---- the published sizes


@pytest.mark.parametrize(
    ("model", "request_mb", "verdict"), [("1.7b", 197, "advice"), ("3b", 246, "advice"), ("7b", 393, "problem")]
)
def test_contiguous_memory_on_jetpack_6_2_2(model, request_mb, verdict, tmp_path):
    """With the pool's 268 MB, of which 154 are free; and with 950M, for all of them."""
    root, bundle = jetpack_6_2_2(tmp_path), published(model, precision="int4", pieces=4)
    found = predicted(root, bundle)["contiguous memory"]
    assert round(found.needed_bytes / 1e6) == request_mb and found.available_bytes == 150528 * 1024
    assert found.verdict == verdict and "the pool has 268 MB, 154 MB free" in found.text
    assert "python jetson/doctor.py --apply cma" in found.remedy and "--blocks does not help" in found.remedy
    boot(root, started="cma=950M", configured="cma=950M")
    meminfo(root, "orin_nano_36", CmaTotal=983040, CmaFree=900000)
    found = predicted(root, bundle)["contiguous memory"]
    assert found.verdict == "ok" and not found.remedy


def test_a_larger_pool_that_waits_for_the_next_start(tmp_path):
    root = jetpack_6_2_2(tmp_path)
    boot(root, configured="cma=950M")
    found = predicted(root, published("7b", precision="int4", pieces=4))["contiguous memory"]
    assert found.verdict == "problem" and found.remedy.startswith("sudo reboot")


@pytest.mark.parametrize(("release", "verdict"), [("36 4.3", "ok"), ("36 5.2", "unknown"), ("39 2.0", "ok")])
def test_contiguous_memory_on_other_releases(release, verdict, tmp_path):
    """The largest head in the smallest pool is no problem where no failure is reported, and no promise."""
    line, revision = release.split()
    write(jetpack_6_2_2(tmp_path), "etc/nv_tegra_release", f"# R{line} (release), REVISION: {revision}, GCID: 1")
    assert predicted(tmp_path, published("7b", precision="int4", pieces=4))["contiguous memory"].verdict == verdict


def test_a_build_that_takes_more_than_there_is(tmp_path):
    """3B in fp16 at once on 8 GB; the number of pieces that is named is the least that fits."""
    root, bundle = jetpack_6_2_2(tmp_path), published("3b")
    found = predicted(root, bundle)["build memory"]
    whole = bundle.manifest.files[weights_file("decoder.0")]["size"]
    assert found.verdict == "problem" and found.needed_bytes == int(BUILD_PER_WEIGHT * whole) + SPARE_BYTES
    words = shlex.split(found.remedy.removeprefix("on the machine with PyTorch: "))
    assert words[:2] == ["python", "export/build_engines.py"] and words[-2] == "--blocks"
    pieces = int(build_engines.parser().parse_args(words[2:]).blocks)
    total = 7802880 * 1024
    assert max(footprint(published("3b", pieces=pieces)).build.values()) <= total
    assert max(footprint(published("3b", pieces=pieces - 1)).build.values()) > total
    assert predicted(root, published("3b", pieces=pieces))["build memory"].verdict == "advice"


def test_what_is_left_when_pieces_do_not_help(tmp_path):
    """The vision stage has no pieces: a smaller precision, and after that swap."""
    root = jetpack_6_2_2(tmp_path)
    meminfo(root, "orin_nano_36", MemTotal=1_500_000, MemAvailable=900_000)
    assert predicted(root, published("1.7b", pieces=24))["build memory"].remedy.endswith("--precision int4")
    remedy = predicted(root, published("1.7b", precision="int4", pieces=24))["build memory"].remedy
    assert remedy.startswith("python jetson/doctor.py --apply swap") and "python jetson/limits.py" in remedy


def test_swap_on_disk_counts_and_zram_does_not(tmp_path):
    root, bundle = jetpack_6_2_2(tmp_path), published("3b")
    write(root, "proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0 partition\t16777212\t0\t5")
    assert predicted(root, bundle)["build memory"].verdict == "problem"
    write(root, "proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n/swapfile file\t16777212\t0\t-2")
    found = predicted(root, bundle)["build memory"]
    assert found.verdict == "advice" and "17.18 GB of swap on disk" in found.text


def test_running_counts_weights_once_and_the_cache(tmp_path):
    bundle = published("1.7b", context=2048)
    found, weights = footprint(bundle), sum(file["size"] for file in bundle.manifest.files.values() if file["size"] > 1)
    # A key and a value of 2048 float16 in each of 24 layers, for 2048 rows and 127 on their way.
    assert found.cache == 2 * 2 * 2048 * 24 * (2048 + 127)
    profiles = 1 + 8  # a picture; prompts and tokens behind 256, 512, 1024 and 2048
    assert sum(found.engines.values()) == weights + profiles * PROFILE_BYTES
    assert found.running == sum(found.engines.values()) + found.cache + found.activations + SPARE_BYTES
    one = predicted(in_order(tmp_path), bundle)["run memory"]
    assert one.verdict == "ok" and one.needed_bytes == found.running and one.available_bytes == 60000000 * 1024


def test_a_bundle_that_is_too_large_to_run(tmp_path):
    root = jetpack_6_2_2(tmp_path)
    found = predicted(root, published("7b", pieces=16))["run memory"]
    assert found.verdict == "problem" and found.remedy.endswith("--precision int4") and "fp16" not in found.remedy
    small = published("1.7b", precision="int4")
    kib = footprint(small).running // 1024 - 50_000
    meminfo(root, "orin_nano_36", MemTotal=kib, MemAvailable=900_000)
    found = predicted(root, small)["run memory"]
    words = shlex.split(found.remedy.removeprefix("on the machine with PyTorch: "))
    rows = int(build_engines.parser().parse_args(words[2:]).max_context)
    assert found.verdict == "problem" and 512 <= rows < 1024
    fits = footprint(published("1.7b", precision="int4", context=rows)).running
    assert fits <= kib * 1024 < footprint(published("1.7b", precision="int4", context=rows + 64)).running
    meminfo(root, "orin_nano_36", MemTotal=1_500_000, MemAvailable=900_000)
    assert "needs a board with more memory" in predicted(root, small)["run memory"].remedy


# ---- the demo's bundle


def test_the_demo_fits(demo, tmp_path):
    root = jetpack_6_2_2(tmp_path)
    found = predicted(root, Bundle.open(demo))
    assert {name: one.verdict for name, one in found.items()} == {
        "build memory": "ok",
        "contiguous memory": "ok",
        "disk": "unknown",
        "run memory": "ok",
    }
    sizes = {part: (demo / weights_file(part)).stat().st_size for part in ("vision", "decoder.0", "decoder.1")}
    assert found["build memory"].needed_bytes == max(map(build_bytes, sizes.values()))
    assert found["contiguous memory"].needed_bytes == 1.5 * 1024 * 256 * 2
    assert found["disk"].needed_bytes > sum(sizes.values())


def test_what_is_built_is_not_to_be_built(demo_copy, tmp_path):
    root = jetpack_6_2_2(tmp_path / "root")
    with machine("10.3.0", integrated=True):
        compile_here(demo_copy)
    found = predicted(root, Bundle.open(demo_copy))
    assert list(found) == ["build", "run memory"] and found["build"].text == "all engines are made"
    (demo_copy / engine_file("decoder.0")).unlink()
    left = footprint(Bundle.open(demo_copy, compiling=True))
    assert left.unbuilt == ("decoder.0",)
    assert "contiguous memory" not in predicted(root, Bundle.open(demo_copy, compiling=True))  # the head is built


def test_the_estimate_covers_what_the_builder_makes(demo):
    """NVIDIA's own builder: neither an engine nor its weights are larger than is counted for them."""
    judge = pytest.importorskip("mobilevlm.engines.judge")
    pytest.importorskip("tensorrt_rtx_bindings")
    bundle = Bundle.open(demo)
    found = footprint(bundle)
    for part, one in judge.judgements(bundle):
        assert 0 < one.weight_bytes <= found.weights[part] < one.engine_bytes <= found.engines[part]


def test_the_disk_of_this_machine(demo, tmp_path, monkeypatch):
    from mobilevlm.jetson import prediction

    system = replace(doctor.look_at(jetpack_6_2_2(tmp_path), read_board(tmp_path)), root=prediction.ROOT)
    needed = footprint(Bundle.open(demo)).disk
    for free, verdict in ((needed, "ok"), (needed - 1, "problem")):
        usage = shutil.disk_usage(demo)._replace(free=free)
        monkeypatch.setattr(prediction.shutil, "disk_usage", lambda path, usage=usage: usage)
        (found,) = [one for one in predict(system, Bundle.open(demo)) if one.name == "disk"]
        assert (found.verdict, found.needed_bytes, found.available_bytes) == (verdict, needed, free)
    assert "du -xh" in found.remedy


def test_the_command(demo, tmp_path):
    """The exit status is the prediction's, too: everything else is in order here."""
    root = in_order(tmp_path)
    done = run(DOCTOR, "--root", root, "--bundle", demo)
    assert done.returncode == 0 and f"{demo} (orin-nano, vision=fp16, decoder=fp16), estimated:" in done.stdout
    assert "ok       build memory: building " in done.stdout and "ok       run memory: running takes" in done.stdout
    meminfo(root, "agx_orin_39", MemTotal=400_000, MemAvailable=300_000)
    write(root, "proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n")
    done = run(DOCTOR, "--root", root, "--bundle", demo, "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and "problem" not in {one["status"] for one in document["findings"]}
    needs = {one["name"]: one for one in document["prediction"]["needs"]}
    assert needs["build memory"]["verdict"] == needs["run memory"]["verdict"] == "problem"
    assert needs["build memory"]["needed_bytes"] > needs["build memory"]["available_bytes"] == 300_000 * 1024
    assert document["prediction"]["bundle"] == str(demo) and needs["run memory"]["remedy"]


def test_refusals(demo_copy, demo_fp32, tmp_path):
    root = in_order(tmp_path / "root")
    (demo_copy / weights_file("vision")).write_bytes(b"half")
    for directory, message in [
        (demo_fp32, "is for target host; --bundle predicts for what TensorRT runs (orin, orin-nx, orin-nano, cuda)"),
        (demo_copy, "is damaged: vision.weights has 4 bytes instead of"),
        (tmp_path / "none", "there is no engine bundle at"),
    ]:
        done = run(DOCTOR, "--root", root, "--bundle", directory)
        assert done.returncode == 2 and done.stdout == "" and message in done.stderr, done.stderr
        assert len(done.stderr.splitlines()) == 1
