"""Saved prefixes: what a file gives another process, and every reason to refuse one."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from mobilevlm.engines.bundle import seal_of
from mobilevlm.errors import UserError
from mobilevlm.runtime import prefix_file
from mobilevlm.runtime.bench.prefix_turns import SITUATIONS
from mobilevlm.runtime.prefix_file import FRONT, PrefixFile, PrefixHeader
from mobilevlm.text.prompt import Conversation, template
from tests.conftest import BENCHMARK, CHAT, ROOT, run
from tests.runtime.prefix_talk import about, opened, said

NAME = "shapes.prefix"


@pytest.fixture(scope="module")
def saved(tmp_path_factory, demo_fp32) -> Path:
    """Of system prompt and picture. Do not write into it."""
    path = tmp_path_factory.mktemp("saved") / NAME
    with opened(demo_fp32) as session:
        session.save_prefix(path, *about(session, 0))
    return path


def test_another_process_says_the_same_without_encoding(saved, demo_fp32, monkeypatch):
    with opened(demo_fp32) as session, opened(demo_fp32) as fresh:
        cold = said(fresh, *about(fresh, 0))
        tokens = session.load_prefix(saved)
        monkeypatch.setattr(session.decoder.runner, "encode_image", lambda pixel_values: pytest.fail("it was encoded"))
        reply = said(session, *about(session, 0))
        assert reply.logprobs == cold.logprobs
        assert reply.statistics.reused_tokens == tokens > 144
        rows = session.decoder.runner.read_cache(0, tokens)
    assert saved.stat().st_size < rows.nbytes + 4096


def test_a_conversation_is_saved_with_its_answers(tmp_path, demo_fp32):
    path = tmp_path / NAME
    with opened(demo_fp32) as session:
        conversation, images = about(session, 1)
        conversation.answer("It is a table with many things on it, and nobody sits at it. " * 3)
        tokens = session.save_prefix(path, conversation, images)
    conversation.ask("Sure?", 1)
    images = [*images, images[0]]
    with opened(demo_fp32) as session, opened(demo_fp32) as fresh:
        assert session.load_prefix(path) == tokens
        reply = said(session, conversation, images)
        assert reply.statistics.reused_tokens == tokens > 180
        assert reply.logprobs == said(fresh, conversation, images).logprobs


def refusal(path: Path, engine: Path, size: int = 2**28) -> str:
    with opened(engine, size) as session:
        with pytest.raises(UserError) as raised:
            session.load_prefix(path)
        assert not size or session.decoder.prefixes.size == 0
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_flipped_byte_is_noticed(saved, demo_fp32, tmp_path):
    """All of the header and the checksum, and some of the rows."""
    content, copy = saved.read_bytes(), tmp_path / NAME
    header = FRONT.size + FRONT.unpack(content[: FRONT.size])[2]
    places = [*range(header), *range(header, len(content) - 32, 70_001), *range(len(content) - 32, len(content))]
    with opened(demo_fp32) as session:
        for number, place in enumerate(places):
            copy.write_bytes(content[:place] + bytes([content[place] ^ (1 << number % 8)]) + content[place + 1 :])
            with pytest.raises(UserError, match="damaged|no saved prefix|version|another bundle|holds|cannot be read"):
                session.load_prefix(copy)
        assert session.decoder.prefixes.size == 0
        copy.write_bytes(content)
        assert session.load_prefix(copy)


def test_a_file_of_another_length_is_refused(saved, demo_fp32, tmp_path):
    content, copy = saved.read_bytes(), tmp_path / NAME
    for size in (0, 5, FRONT.size, FRONT.size + 10, 1000, len(content) - 32, len(content) - 1):
        copy.write_bytes(content[:size])
        assert "damaged" in refusal(copy, demo_fp32) or size < FRONT.size
    copy.write_bytes(content + b"x")
    assert "damaged" in refusal(copy, demo_fp32)
    copy.write_bytes(b"PK" + bytes(100))
    assert "is no saved prefix" in refusal(copy, demo_fp32)
    assert "cannot be read: No such file" in refusal(tmp_path / "missing", demo_fp32)
    assert "cannot be read: Is a directory" in refusal(tmp_path, demo_fp32)


def test_another_version_bundle_or_dtype_is_refused(saved, demo_fp32, tmp_path):
    content, copy = saved.read_bytes(), tmp_path / NAME
    copy.write_bytes(FRONT.pack(b"MLMPREFX", 2, FRONT.unpack(content[: FRONT.size])[2]) + content[FRONT.size :])
    assert "has version 2, this program reads 1" in refusal(copy, demo_fp32)
    other = shutil.copytree(demo_fp32, tmp_path / "other")
    manifest = json.loads((other / "bundle.json").read_text())
    manifest["name"] = "another"
    (other / "bundle.json").write_text(json.dumps(manifest | {"seal": seal_of(manifest)}))
    assert "belongs to another bundle" in refusal(saved, other)
    known = PrefixFile(saved, header_of(saved)).header
    for dtype, message in (("int8", r"holds float32, the kv cache here is int8"), ("float32", "another shape")):
        expected = PrefixHeader(known.bundle, dtype, [2, *known.rows[1:]], [])
        with pytest.raises(UserError, match=message):
            PrefixFile(saved, expected)


def header_of(path: Path) -> PrefixHeader:
    content = path.read_bytes()
    return PrefixHeader(**json.loads(content[FRONT.size : FRONT.size + FRONT.unpack(content[: FRONT.size])[2]]))


@pytest.mark.parametrize(
    "change",
    (
        {"rows": [24, 2**30, 2**30, 2**30]},
        {"rows": [-1, 1, 1, 1]},
        {"rows": [1.5, 1, 1, 1]},
        {"rows": "many"},
        {"tokens": [[]]},
        {"tokens": None},
        {"dtype": ["O"]},
        {"bundle": 3},
        {"more": 1},
        {"tokens": [1, 2, 3]},
    ),
    ids=str,
)
def test_nothing_is_allocated_for_a_header_that_lies(change, saved, demo_fp32, tmp_path, monkeypatch):
    text = json.dumps(vars(header_of(saved)) | change).encode()
    copy = tmp_path / NAME
    copy.write_bytes(FRONT.pack(b"MLMPREFX", 1, len(text)) + text + bytes(2000))
    monkeypatch.setattr(prefix_file.np, "empty", lambda *_: pytest.fail("memory was taken"))
    assert "damaged" in refusal(copy, demo_fp32)
    copy.write_bytes(struct.pack("<8sII", b"MLMPREFX", 1, 2**31) + text)
    assert "its header cannot be read" in refusal(copy, demo_fp32)


def test_a_file_larger_than_the_cache_is_refused(saved, demo_fp32):
    assert "the prefix cache holds 1000" in refusal(saved, demo_fp32, 1000)
    assert "open it with prefix_cache_bytes" in refusal(saved, demo_fp32, 0)


def test_what_cannot_be_saved(demo_fp32, tmp_path):
    with opened(demo_fp32, 1000) as session, pytest.raises(UserError, match="do not fit into a prefix cache of 1000"):
        session.save_prefix(tmp_path / NAME, *about(session, 0))
    conversation = Conversation(template("v1"))
    conversation.ask("Hi")
    with opened(demo_fp32) as session:
        with pytest.raises(UserError, match="no beginning worth keeping"):
            session.save_prefix(tmp_path / NAME, conversation, [])
        with pytest.raises(OSError):
            session.save_prefix(tmp_path / "no" / NAME, *about(session, 0))
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_saves_and_loads(demo_fp32, tmp_path):
    path = tmp_path / NAME
    words = [CHAT, "--engine", demo_fp32, "--image", ROOT / "assets" / "shapes.png", "--json", "--prompt"]
    plain, *others = (
        run(*words, question, *options)
        for question, options in (
            ("What color is the circle?", []),
            ("What color is the circle?", ["--prefix", path]),
            ("What color is the circle?", ["--prefix", path]),
            ("Where is the circle?", ["--prefix", path]),
        )
    )
    answers = [json.loads(done.stdout) for done in others]
    assert [one["tokens"] for one in answers[:2]] == [json.loads(plain.stdout)["tokens"]] * 2
    assert all(one["statistics"]["reused_tokens"] > 144 for one in answers)
    assert [one["statistics"]["image_encode_ms"] for one in answers[1:]] == [0, 0]
    assert " tokens, " in others[0].stderr and NAME not in others[1].stderr
    path.write_bytes(path.read_bytes()[:-1])
    refused = run(*words, "What?", "--prefix", path)
    assert refused.returncode == 2 and "is damaged" in refused.stderr


def test_the_benchmark_measures_follow_ups(demo_fp32):
    done = run(BENCHMARK, "--engine", demo_fp32, "--prefixes", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert set(figures["kept"]) == set(figures["without"]) == set(SITUATIONS)
    assert all(len(one) == 1 and one[0] > 0 for one in (*figures["kept"].values(), *figures["without"].values()))
    assert figures["saved_tokens"] > 144 and figures["saved_bytes"] > 1e6
    refused = run(BENCHMARK, "--compare", demo_fp32, demo_fp32, "--prefixes")
    assert refused.returncode == 2 and "name it with --engine" in refused.stderr


def test_a_saved_prefix_is_data(saved):
    """Its rows are the kv cache's own bytes, and its header is JSON."""
    content, header = saved.read_bytes(), header_of(saved)
    size = int(np.prod(header.rows)) * np.dtype(header.dtype).itemsize
    rows = np.frombuffer(content[-32 - size : -32], header.dtype)
    assert np.isfinite(rows).all() and np.abs(rows).max() > 0
