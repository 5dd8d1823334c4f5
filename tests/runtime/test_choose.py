"""`--precision auto`: candidates are built, measured on the double, and one stays; at no moment none is usable."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mobilevlm.engines import candidates
from mobilevlm.engines.candidates import CHECK_FILE, read_candidates
from mobilevlm.errors import UserError
from mobilevlm.export import build_engines
from mobilevlm.export.calibration.conversations import DEFAULT
from mobilevlm.export.precisions import tensorrt_int4
from mobilevlm.runtime import Session, choose
from mobilevlm.runtime.agreement import agreement
from mobilevlm.text.tokenizer import Tokenizer
from tests.conftest import BUILD, CHAT, DEMO, ROOT, build, run
from tests.tensorrt_double.bundles import compile_here, machine

CHOOSE = ROOT / "runtime" / "choose.py"
PICTURE = ROOT / "assets" / "shapes.png"
NAMES = ["fp16", "int8", "int4"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The demo's candidates, as they are copied to a board."""
    out = tmp_path_factory.mktemp("auto") / "demo auto"
    done = run(BUILD, "--model", DEMO, "--target", "orin", "--precision", "auto", "--max-context", "320", "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"python runtime/choose.py --engine '{out}'" in done.stderr
    return out


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "auto")


def test_the_board_keeps_one_and_says_why(folder):
    asked = (CHAT, "--engine", folder, "--image", PICTURE, "--prompt", "What color is the circle?")
    with machine("10.3.0"):
        early = run(*asked)
        assert early.returncode == 2 and f"python runtime/choose.py --engine {folder}" in early.stderr
        done = run(CHOOSE, "--engine", folder, "--budget", "100")
        assert done.returncode == 0, done.stderr
        found = read_candidates(folder)
        assert done.stdout.strip() == found.chosen and list(found.measured) == NAMES
        answers = {name: one["answer_ms"] for name, one in found.measured.items()}
        assert found.chosen == min(answers, key=answers.get)
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            ["candidates.json", "check.safetensors", "choice.md", found.chosen]
        )
        told = (folder / "choice.md").read_text()
        for name, one in found.measured.items():
            assert f"| {name} | {one['agreement_percent']:.4g} | {one['encode_ms']:.4g} |" in told
        again = run(CHOOSE, "--engine", folder)
        assert again.returncode == 0 and again.stdout == done.stdout and "was chosen before" in again.stderr
        said = run(*asked)
        assert said.returncode == 0 and said.stdout == "The circle is red.\n"


def test_what_is_compared_is_what_pytorch_says(built, demo_fp32):
    """The float32 host bundle agrees with it nearly always; tokens it finds likeliest are mostly what is written."""
    check = load_file(built / CHECK_FILE)
    shared = agreement(demo_fp32, built / CHECK_FILE)
    assert shared > 0.99
    tokenizer, ends = Tokenizer(DEMO), np.cumsum(check["counts"])
    rows = json.loads(DEFAULT.read_text())[3::4]
    assert len(rows) == len(ends) == 8
    for row, end, count in zip(rows, ends, check["counts"], strict=True):
        said = tokenizer.decode(check["tokens"][end - count : end].tolist())
        written = " ".join(turn["value"] for turn in row["conversations"][1::2]).split()
        assert sum(word in said for word in written) > 0.7 * len(written), (said, written)


def test_agreement_counts_tokens(built, demo_fp32, tmp_path):
    check = load_file(built / CHECK_FILE)
    check["tokens"][::4] += 1
    save_file(check, tmp_path / "check.safetensors")
    changed = len(check["tokens"][::4]) / len(check["tokens"])
    whole = agreement(demo_fp32, built / CHECK_FILE)
    assert abs(agreement(demo_fp32, tmp_path / "check.safetensors") - (whole - changed)) < 0.02


def test_what_there_is_no_room_for_is_not_asked(built, tmp_path):
    """A context that ends within the conversations: those answers that fit are compared."""
    done = build("--model", DEMO, "--precision", "fp32", "--max-context", "200", out=tmp_path / "short")
    assert done.returncode == 0 and agreement(tmp_path / "short", built / CHECK_FILE) > 0.99
    assert (load_file(built / CHECK_FILE)["rows"] >= 200).any()


@pytest.mark.parametrize(
    "budget, wanted", [(0.0, "fp16"), (0.4, "fp16"), (0.5, "int8"), (1.9, "int8"), (2.0, "int4"), (100, "int4")]
)
def test_the_quickest_within_the_budget(budget, wanted):
    figures = {"fp16": (99.5, 30), "int8": (99.0, 20), "int4": (97.5, 10), "slow": (99.5, 40)}
    measured = {name: {"agreement_percent": share, "answer_ms": ms} for name, (share, ms) in figures.items()}
    assert choose.quickest(measured, budget) == wanted


def test_a_stop_at_any_moment_loses_nothing(folder, monkeypatch):
    """After compiling, before and behind the note of what was chosen, while the others are being removed."""
    figures = {"agreement_percent": 99.0, "encode_ms": 1.0, "prefill_ms": 1.0, "token_ms": 1.0, "megabytes": 1.0}
    measured = {name: figures | {"answer_ms": ms} for name, ms in zip(NAMES, (3.0, 1.0, 2.0), strict=True)}
    stop = pytest.raises(KeyboardInterrupt)

    def interrupt(*_, **options):
        raise KeyboardInterrupt

    with machine("10.3.0") as double:
        monkeypatch.setattr(choose, "compile_bundle", compile_here)
        monkeypatch.setattr(choose, "measure", interrupt)
        with stop:
            choose.choose(folder, 1.0)
        builds = double.settings.counts["builds"]
        assert read_candidates(folder).chosen == "" and builds == 2 * len(NAMES)
        monkeypatch.setattr(choose, "measure", lambda *_: measured)
        with monkeypatch.context() as patch, stop:
            patch.setattr(candidates, "write_candidates", interrupt)
            choose.choose(folder, 1.0)
        assert read_candidates(folder).chosen == "" and all((folder / name).is_dir() for name in NAMES)
        with monkeypatch.context() as patch, stop:
            patch.setattr(candidates.shutil, "rmtree", interrupt)
            choose.choose(folder, 1.0)
        assert (folder / "fp16").is_dir() and double.settings.counts["builds"] == builds
        with Session(folder) as session:
            assert session.bundle.directory.name == "int8"
        assert choose.choose(folder, 1.0) == "int8"
        assert not (folder / "fp16").exists() and not (folder / "int4").exists()


def test_what_differs_too_much_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorrt_int4, "FACTS", replace(tensorrt_int4.FACTS, tolerance=1e-9))
    words = ["--model", str(DEMO), "--target", "orin", "--precision", "auto", "--max-context", "320"]
    options = build_engines.parser().parse_args([*words, "--out", str(tmp_path / "auto")])
    build_engines.build(options)
    found = read_candidates(tmp_path / "auto")
    assert found.names == ["fp16", "int8"] and "differs from PyTorch" in found.left_out["int4"]
    assert "int4 is left out" in capsys.readouterr().err and "--precision auto" in found.command
    (tmp_path / "auto" / "mine.txt").write_text("mine")
    options.overwrite = True
    with pytest.raises(UserError, match="mine.txt"):
        build_engines.build(options)


def test_refusals(built, bundle, tmp_path):
    copy = tmp_path / "auto"
    copy.mkdir()
    for words, text in (
        ([BUILD, "--model", DEMO, "--target", "host", "--precision", "auto"], "for targets on TensorRT"),
        ([CHOOSE, "--engine", bundle], "holds no candidates"),
        ([CHOOSE, "--engine", built, "--budget", "-1"], "--budget is -1"),
        ([BUILD, "--engine", built, "--target", "orin"], f"python runtime/choose.py --engine '{built}'"),
    ):
        done = run(*words)
        assert done.returncode == 2 and text in done.stderr, done.stderr
    (copy / "candidates.json").write_text('{"names": []')
    done = run(CHOOSE, "--engine", copy)
    assert done.returncode == 2 and "cannot be read" in done.stderr
