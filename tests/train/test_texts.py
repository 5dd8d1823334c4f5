"""Texts, tokens and blocks: what a language model is pre-trained on, against SentencePiece and transformers' LLaMA."""

import json

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceProcessor
from transformers import LlamaConfig, LlamaForCausalLM

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.model.model import MobileVLM
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.train.packing import PackedRows, pack, token_type
from mobilevlm.train.texts import read_texts
from tests.conftest import GOLDEN, ROOT, run

SMALL = GOLDEN / "_common" / "tokenizer_small"
TEXTS = ["One red circle.", "Numbers 12 and 345, and ü.\nA second line.", "x"]


def lines(path, texts=TEXTS):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_texts_come_out_of_every_form(tmp_path):
    rows = [{"conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "whole.txt").write_text("a\nb\n")
    assert list(read_texts(lines(tmp_path / "lines.jsonl"))) == TEXTS
    assert list(read_texts(tmp_path / "rows.json")) == ["What?\nThis."]
    assert list(read_texts(tmp_path / "whole.txt")) == ["a\nb\n"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.jsonl", None, "does not exist"),
        ("a.csv", "x", "come as .txt, .jsonl or .json"),
        ("a.jsonl", '{"text": "x"}\n{"txt": 1}\n', "line 2 is no JSON object with a `text`"),
        ("a.jsonl", '{"text": 3}\n', "line 1 is no"),
        ("a.json", "[1", "row 0 has no `conversations`"),
        ("a.json", '{"a": 1}', "is no JSON list"),
        ("a.json", '[{"text": 1}]', "row 0 has no `conversations`"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_texts_of_other_forms_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        list(read_texts(path))


def test_a_packed_file_is_the_texts_end_to_end(tmp_path):
    """Against SentencePiece itself: BOS, pieces, EOS of every text; blocks cut it without a gap, a rest is left out."""
    tokenizer = Tokenizer(SMALL)
    path = pack([lines(tmp_path / "a.jsonl")], tokenizer, tmp_path / "out")
    pieces = SentencePieceProcessor(str(SMALL / "tokenizer.model"))
    expected = [index for text in TEXTS for index in [1, *pieces.encode(text), 2]]
    assert np.fromfile(path, np.uint16).tolist() == expected
    rows = PackedRows(path, len(tokenizer), 8)
    assert torch.cat([row["input_ids"] for row in rows]).tolist() == expected[: len(expected) // 8 * 8]
    assert all(torch.equal(row["input_ids"], row["labels"]) for row in rows)
    with pytest.raises(UserError, match=f"{len(expected)} tokens, fewer than one block of 500"):
        PackedRows(path, len(tokenizer), 500)


def test_a_packed_file_is_kept_until_its_texts_change(tmp_path):
    tokenizer, source = Tokenizer(SMALL), lines(tmp_path / "a.jsonl")
    path = pack([source], tokenizer, tmp_path / "out")
    path.write_bytes(b"kept")
    assert pack([source], tokenizer, tmp_path / "out").read_bytes() == b"kept"
    lines(source, [*TEXTS, "more"])
    assert len(pack([source], tokenizer, tmp_path / "out").read_bytes()) > 4
    (tmp_path / "out" / "tokens.json").unlink()  # killed before the end
    path.write_bytes(b"half")
    assert pack([source], tokenizer, tmp_path / "out").read_bytes() != b"half"


def test_large_vocabularies_take_four_bytes():
    assert token_type(32000) is np.uint16
    assert token_type(70000) is np.uint32


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    """A tokenizer and a language model of the demo's size, trained by the command lines for a few steps."""
    root = tmp_path_factory.mktemp("language")
    texts = [f"There are {n} red circles and {m} blue stars." for n in range(30) for m in range(30)]
    data = lines(root / "texts.jsonl", texts)
    train = ROOT / "train"
    words = ("--data", data, "--vocab-size", 620)
    for out in ("tokenizer", "again"):
        done = run(train / "train_tokenizer.py", *words, "--out", root / out)
        assert done.returncode == 0, done.stderr
    command = [train / "language_pretrain.py", "--recipe", "demo_language", "--size", "mobilevlm_v2_demo"]
    command += ["--tokenizer", root / "tokenizer", "--data", data, "--model-max-length", 64, "--max-steps", 12]
    command += ["--global-batch-size", 8, "--per-device-train-batch-size", 4, "--dataloader-num-workers", 0]
    command += ["--warmup-steps", 2, "--logging-steps", 1, "--out", root / "model"]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    return root, done, command


def test_a_tokenizer_is_llamas_and_the_same_every_time(language_model):
    root, _, _ = language_model
    tokenizer = Tokenizer(root / "tokenizer")
    assert len(tokenizer) == 620
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2, 0)
    pieces = SentencePieceProcessor(str(root / "tokenizer" / "tokenizer.model"))
    assert pieces.encode("12 circles", out_type=str) == ["▁", "1", "2", "▁circles"]  # digits apart, words whole
    assert pieces.decode(pieces.encode("Жук  ü\n7")) == "Жук  ü\n7"  # bytes for what it never saw, spaces kept
    same = ((root / name / "tokenizer.model").read_bytes() for name in ("tokenizer", "again"))
    assert next(same) == next(same)


def test_pre_training_learns_and_leaves_the_published_layout(language_model):
    root, done, command = language_model
    log = json.loads((root / "model" / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 12 and losses[0] == pytest.approx(np.log(620), abs=0.3) and losses[-1] < losses[0] - 1
    assert "12 steps" in done.stdout and "tokens/s" in done.stdout
    checkpoint = open_checkpoint(root / "model")
    assert checkpoint.config.vision is None and checkpoint.config.vocab_size == 620
    again = run(*command)
    assert again.returncode == 0 and "is finished" in again.stdout
    other = run(*command, "--learning-rate", "1e-4")
    assert other.returncode == 2 and "learning_rate is 0.0015 there and 0.0001 here" in other.stderr


def test_the_pre_trained_model_is_transformers_llama(language_model):
    root, _, _ = language_model
    ours = MobileVLM.from_pretrained(root / "model")
    theirs = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in ours.config.to_dict().items() if k != "mobilevlm"}))
    theirs.load_state_dict(ours.state_dict())
    ids = torch.tensor([ours.tokenizer.encode(["There are 7 red circles"])])
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs.eval()(ids).logits, atol=1e-5)


def test_too_many_pieces_are_refused(tmp_path):
    data = lines(tmp_path / "a.jsonl")
    script = ROOT / "train" / "train_tokenizer.py"
    done = run(script, "--data", data, "--vocab-size", 30000, "--out", tmp_path / "out")
    assert done.returncode == 2 and "cannot make 30000 pieces" in done.stderr
    done = run(script, "--data", data, "--vocab-size", 100, "--out", tmp_path / "out")
    assert done.returncode == 2 and "take 260" in done.stderr
