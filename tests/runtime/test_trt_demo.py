"""The demo model on TensorRT's double: it says what ONNX Runtime says of the float32 host bundle, word for word."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from mobilevlm.errors import UserError
from mobilevlm.runtime import Session
from mobilevlm.runtime.dialogue import Dialogue
from mobilevlm.runtime.top_logits import TopLogits
from tests.conftest import BUILD, CHAT, DEMO, GOLDEN, GOLDEN_MODELS, ROOT, run
from tests.runtime.prefix_talk import compare
from tests.tensorrt_double.bundles import compile_here, machine

PICTURE = Image.open(ROOT / "assets" / "shapes.png")
QUESTIONS = (
    "What color is the circle?",
    "How many shapes are there?",
    "What shape is red?",
    "Is there a blue square?",
    "Which shape is the largest?",
    "What is to the left of the circle?",
    "Where is the circle?",
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, demo_fp32):
    """Bundles for Orin as *prepare* leaves them, by precision and pieces; the host's as `host`."""
    root, made = tmp_path_factory.mktemp("demo"), {}

    def bundle(precision: str, pieces: int):
        key = (precision, pieces)
        if key not in made:
            made[key] = root / f"{precision}-{pieces}"
            options = ("--precision", precision, "--blocks", pieces, "--max-context", 512)
            done = run(BUILD, "--model", DEMO, "--target", "orin", *options, "--out", made[key])
            assert done.returncode == 0, done.stderr
        return made[key]

    bundle.host = demo_fp32
    return bundle


def talk(session: Session) -> list[tuple[str, list[int]]]:
    """A conversation that grows beyond the smallest length of the cache."""
    dialogue, said = Dialogue(session), []
    for number, question in enumerate(QUESTIONS):
        reply = dialogue.ask(question, None if number else PICTURE, max_new_tokens=24)
        said.append(("".join(reply), reply.tokens))
    assert len(session.decoder._cached) > 256
    return said


@pytest.fixture(scope="module")
def wanted(prepared):
    with Session(prepared.host) as session:
        return talk(session)


CASES = [("11.4.1", "fp32", 1)]
CASES += [(version, "fp16", pieces) for version in ("10.3.0", "10.16.2") for pieces in (1, 2, 4)]


@pytest.mark.parametrize("version, precision, pieces", CASES)
def test_it_says_the_same(version, precision, pieces, prepared, wanted, tmp_path):
    directory = shutil.copytree(prepared(precision, pieces), tmp_path / "bundle")
    with machine(version):
        bundle = compile_here(directory)
        assert len(bundle.manifest.parts) == pieces
        with Session(directory) as session:
            assert session.decoder.runner.not_captured == ""
            assert talk(session) == wanted


def test_closed_questions_are_scored_over_all_logits(prepared, tmp_path):
    """TensorRT's decoders return the largest logits alone; a choice can be any token."""
    directory = shutil.copytree(prepared("fp32", 1), tmp_path / "bundle")
    colors = ["blue", "blue and green", "A very unlikely answer", "No"]
    with Session(prepared.host) as session:
        wanted = session.choose(QUESTIONS[0], colors, PICTURE)
    with machine("11.4.1"):
        compile_here(directory)
        with Session(directory) as session:
            found = session.choose(QUESTIONS[0], colors, PICTURE)
            said = "".join(session.chat(QUESTIONS[1], PICTURE))
    assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-3) and found.answer == wanted.answer
    assert min(found.logprobs) < -20  # far below the largest
    with Session(prepared.host) as session:
        assert "".join(session.chat(QUESTIONS[1], PICTURE)) == said


def test_a_schema_is_followed_where_the_device_returns_the_largest_logits_alone(prepared, tmp_path):
    """What the grammar allows is often not among them: all are fetched, and the answer is that of the host."""
    shape = {
        "type": "object",
        "properties": {"shape": {"type": "string", "maxLength": 12}, "size": {"type": "integer"}},
    }
    schema = {**shape, "required": ["shape", "size"], "additionalProperties": False}

    def said(session: Session) -> tuple[str, list[int]]:
        reply = session.chat(QUESTIONS[0], PICTURE, max_new_tokens=60, schema=schema)
        return "".join(reply), reply.tokens

    with Session(prepared.host) as session:
        wanted = said(session)
    directory = shutil.copytree(prepared("fp16", 1), tmp_path / "bundle")
    with machine("10.3.0"):
        compile_here(directory)
        with Session(directory) as session:
            few = session.decoder.decode(session.decoder.embed([1]), 0)
            assert isinstance(few, TopLogits) and len(few.tokens) < few.vocabulary
            assert said(session) == wanted
    assert json.loads(wanted[0]).keys() == {"shape", "size"}


@pytest.fixture(scope="module", params=GOLDEN_MODELS)
def of_golden(request, bundles, tmp_path_factory):
    """A golden model for Orin in float32, as its weights are random, and what its host bundle says."""
    out = tmp_path_factory.mktemp("golden") / request.param
    model = GOLDEN / request.param / "ckpt_safetensors"
    done = run(BUILD, "--model", model, "--target", "orin", "--precision", "fp32", "--out", out)
    assert done.returncode == 0, done.stderr
    with Session(bundles[request.param]) as session:
        return out, two_turns(session)


def two_turns(session: Session) -> list[list[int]]:
    dialogue, said = Dialogue(session), []
    for image, question in ((PICTURE, "What is in the picture?"), (None, "And what else?")):
        reply = dialogue.ask(question, image, max_new_tokens=20)
        list(reply)
        said.append(reply.tokens)
    return said


@pytest.mark.parametrize("version", ("10.3.0", "10.16.2"))
def test_goldens_say_the_same(version, of_golden, tmp_path):
    prepared, wanted = of_golden
    directory = shutil.copytree(prepared, tmp_path / "bundle")
    with machine(version):
        compile_here(directory)
        with Session(directory) as session:
            assert two_turns(session) == wanted and len(set(wanted[0])) > 1


@pytest.mark.parametrize("version, failing", [("10.3.0", "fail_copy"), ("10.16.2", "fail_enqueue")])
def test_after_an_error_in_the_middle_it_says_the_same(version, failing, prepared, wanted, tmp_path):
    directory = shutil.copytree(prepared("fp16", 1), tmp_path / "bundle")
    with machine(version) as double:
        compile_here(directory)
        with Session(directory) as session:
            reply = iter(session.chat(QUESTIONS[0], PICTURE))
            next(reply)
            setattr(double.settings, failing, 0)
            with pytest.raises(UserError, match="failed|could not run"):
                list(reply)
                list(session.chat(QUESTIONS[1], PICTURE))  # a token is a graph; what enqueues is a prompt
            setattr(double.settings, failing, None)
            assert talk(session) == wanted


def test_interleaved_conversations_say_what_each_says_alone(prepared, tmp_path):
    """Rows of the kv cache to the host and back, in two pieces of the decoder, and on the CPU."""
    directory = shutil.copytree(prepared("fp16", 2), tmp_path / "bundle")
    compare(directory, on_cpu=True)
    with machine("10.3.0"):
        compile_here(directory)
        compare(directory)
        with Session(directory) as session:
            list(session.chat(QUESTIONS[0], PICTURE, max_new_tokens=2))
            runner = session.decoder.runner
            rows = runner.read_cache(3, 140)
            assert rows.dtype == np.float16 and rows.shape[2] == 137 and len(np.unique(rows)) > 1000
            runner.write_cache(3, rows[:, :, ::-1])
            assert np.array_equal(runner.read_cache(3, 140), rows[:, :, ::-1])
            assert runner.read_cache(0, 0).shape == (rows.shape[0], 1, 0, rows.shape[3])


def test_the_commands(prepared, tmp_path):
    """In processes of their own, as on a board."""
    directory = shutil.copytree(prepared("fp16", 1), tmp_path / "bundle")
    asked = (CHAT, "--engine", directory, "--image", ROOT / "assets" / "shapes.png", "--prompt", QUESTIONS[0])
    with machine("10.3.0"):
        refused = run(*asked)
        assert refused.returncode == 2 and f"python engines/compile.py {directory}" in refused.stderr
        done = run(ROOT / "engines" / "compile.py", directory)
        assert done.returncode == 0, done.stderr
        for spare in (*directory.glob("*.onnx"), *directory.glob("*.weights")):
            spare.unlink()  # the board does without them
        verified = run(ROOT / "runtime" / "verify.py", "--engine", directory)
        assert verified.returncode == 0, verified.stderr
        assert verified.stdout.splitlines()[-1] == "tokens: 5 of 5 are PyTorch's"
        said = run(*asked)
        assert said.returncode == 0, said.stderr
    with Session(prepared.host) as session:
        assert said.stdout.strip() == "".join(session.chat(QUESTIONS[0], PICTURE)).strip()
