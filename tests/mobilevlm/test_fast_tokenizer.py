"""A `tokenizer.json` in place of a `tokenizer.model`, against transformers' fast tokenizer and the slow one's model.

Most re-uploads of LLaMA's kind carry `tokenizer.json` alone, in one of two forms: transformers 4 writes Prepend and
Replace as a normalizer, transformers 5 a Metaspace splitter.
"""

import json
import random
import shutil
from pathlib import Path

import pytest
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer as FastTokenizer
from transformers import AutoTokenizer

from mobilevlm.checkpoint.fast_check import check_converted
from mobilevlm.text.fast_tokenizer import convert
from mobilevlm.text.tokenizer import IMAGE, Token, Tokenizer, TokenizerError
from mobilevlm.text.tokenizer_files import write_tokenizer_files
from tests.conftest import DEMO, GOLDEN, build, once, run

SMALL = GOLDEN / "_common" / "tokenizer_small"
SPACE = "\u2581"
PREPEND = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": SPACE},
        {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
    ],
}


def texts() -> list[str]:
    """200 texts: words, spaces, lines, numbers, other scripts, emoji, spelled bytes and control tokens' neighbours."""
    drawn = random.Random(7)
    parts = [
        "the ",
        "red",
        " car",
        "\n",
        "  ",
        "12",
        "3.5",
        ",",
        "?",
        "caf\u00e9",
        "\u4f60\u597d",
        "\U0001f600",
        "<0x0A>",
    ]
    parts += ["a\u0301", "\t", SPACE, "UPPER", "x", "'s", "\u00a0", "picture", "What is ", "\u200d"]
    return ["A" + "".join(drawn.choices(parts, k=drawn.randint(1, 25))) for _ in range(200)]


def write_fast(directory: Path, source: Path, form: str) -> Path:
    """A directory with the `tokenizer.json` that transformers makes of a model, and its small companions."""
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)
    path = directory / "tokenizer.json"
    raw = json.loads(path.read_text())
    if form == "normalizer":
        raw |= {"normalizer": PREPEND, "pre_tokenizer": None}
    path.write_text(json.dumps(raw))
    (directory / "tokenizer.model").unlink(missing_ok=True)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(source / name, directory)
    config = json.loads((source / "tokenizer_config.json").read_text()) | {"legacy": form == "normalizer"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module", params=["normalizer", "metaspace"])
def fast(request, tmp_path_factory):
    return write_fast(tmp_path_factory.mktemp(request.param) / "fast", DEMO, request.param), request.param


def test_ids_are_those_of_the_fast_tokenizer(fast):
    """200 texts: the tokenizers library on the file itself. Public: ggml-org/llama.cpp issues 3256 and 4120."""
    directory, _ = fast
    theirs, ours = FastTokenizer.from_file(str(directory / "tokenizer.json")), Tokenizer(directory)
    for text in texts():
        assert ours.encode([text]) == theirs.encode(text).ids, text


def test_ids_are_those_of_the_slow_tokenizers_model(fast, tmp_path):
    """200 texts, with images and control tokens: the model from which transformers made the file."""
    directory, _ = fast
    slow = tmp_path / "slow"
    shutil.copytree(directory, slow)
    shutil.copy(DEMO / "tokenizer.model", slow)
    ours, theirs = Tokenizer(directory), Tokenizer(slow)
    for number, text in enumerate(texts()):
        prompt = [text, IMAGE, "\n" + text[::-1], Token("</s>"), " " + text] if number % 2 else [" " + text]
        assert ours.encode(prompt) == theirs.encode(prompt), text
        assert ours.decode(ours.encode([text])) == theirs.decode(theirs.encode([text]))
    roles = ("bos_id", "eos_id", "unk_id", "pad_id", "special_ids", "legacy")
    assert [getattr(ours, role) for role in roles] == [getattr(theirs, role) for role in roles]


def test_a_prompt_with_an_image_is_the_fast_tokenizers(fast):
    """The original's way: every stretch between images by itself, one BOS in front."""
    directory, _ = fast
    library, ours = FastTokenizer.from_file(str(directory / "tokenizer.json")), Tokenizer(directory)
    for text in texts()[:50]:
        first, second = library.encode("USER: x" + text).ids, library.encode(text).ids
        assert ours.encode(["USER: x" + text, IMAGE, text]) == [*first, -200, *second[1:]]


def test_the_converted_model_is_one_that_sentencepiece_describes(fast):
    """The wire format by hand, read by protobuf's own classes."""
    model = sentencepiece_model_pb2.ModelProto.FromString(convert(fast[0] / "tokenizer.json").model)
    original = sentencepiece_model_pb2.ModelProto.FromString((DEMO / "tokenizer.model").read_bytes())
    assert [(p.piece, p.type) for p in model.pieces] == [(p.piece, p.type) for p in original.pieces]
    assert (model.trainer_spec.model_type, model.trainer_spec.byte_fallback) == (2, True)
    assert (model.normalizer_spec.add_dummy_prefix, model.normalizer_spec.remove_extra_whitespaces) == (True, False)


def changed(path, change):
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda raw: raw["model"]["merges"].pop(5), "does not merge"),
        (lambda raw: raw["model"]["merges"].append(raw["model"]["merges"][0]), "do not stand together"),
        (lambda raw: raw["model"].update(byte_fallback=False), "no byte fallback"),
        (lambda raw: raw["model"].update(type="Unigram"), "only BPE"),
        (lambda raw: raw["model"]["vocab"].update(zzz=5000), "ids up to 5000"),
        (lambda raw: raw["model"]["vocab"].update(the="1"), "damaged"),
        (lambda raw: raw.update(model=[]), "describes no model"),
        (lambda raw: raw["model"].update(merges=[["a"]]), "no pairs"),
        (lambda raw: raw.update(normalizer={"type": "NFKC"}), "changes or splits text in another way.*NFKC"),
        (lambda raw: raw.update(pre_tokenizer={"type": "ByteLevel"}), "another way.*ByteLevel"),
    ],
)
def test_what_sentencepiece_would_tokenise_otherwise_is_refused(change, message, fast, tmp_path):
    """Re-uploads of other families, and damaged files: the sentence says in what they differ.

    Public: ggml-org/llama.cpp issues 8649 and 9927.
    """
    directory = shutil.copytree(fast[0], tmp_path / "fast")
    changed(directory / "tokenizer.json", change)
    with pytest.raises(TokenizerError, match=f"tokenizer.json cannot be used in place of a tokenizer.model.*{message}"):
        Tokenizer(directory)


def test_a_converted_tokenizer_is_compared_with_the_library(fast, tmp_path, monkeypatch):
    directory = shutil.copytree(fast[0], tmp_path / "fast")
    check_converted(directory)
    right = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, segments: [*right(self, segments), 5])
    again = shutil.copytree(directory, tmp_path / "again")
    with pytest.raises(TokenizerError, match="gives 'What is in the picture.' the ids .*copy tokenizer.model"):
        check_converted(again)


def test_added_tokens_of_a_tokenizer_json_come_along(fast, tmp_path):
    """Tokens behind the vocabulary, which only `tokenizer.json` names, keep their ids in what is written."""
    directory = shutil.copytree(fast[0], tmp_path / "fast")
    entry = {"id": 1024, "content": "[PAD]", "special": True, "lstrip": False, "rstrip": False}
    changed(directory / "tokenizer.json", lambda raw: raw["added_tokens"].append(entry))
    written = tmp_path / "written"
    written.mkdir()
    write_tokenizer_files(directory, written)
    for place in (directory, written):
        assert Tokenizer(place).token_to_id("[PAD]") == 1024 and len(Tokenizer(place)) == 1025
    assert not (written / "tokenizer.json").exists() and (written / "tokenizer.model").is_file()


@pytest.fixture(scope="module")
def fast_bundle(tmp_path_factory):
    def make(out: Path) -> None:
        out.mkdir()
        model = shutil.copytree(DEMO, out / "model")
        write_fast(out / "made", DEMO, "normalizer")
        shutil.copy(out / "made" / "tokenizer.json", model)
        (model / "tokenizer.model").unlink()
        done = build("--model", model, out=out / "bundle")
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "fast-bundle", make) / "bundle"


def test_a_bundle_of_a_tokenizer_json_answers_like_the_demos(fast_bundle, demo_fp32):
    """The bundle carries a `tokenizer.model`, and answers with nothing more installed than any other."""
    question = ("runtime/chat.py", "--prompt", "What is a circle?", "--max-new-tokens", "8")
    said = [run(*question[:1], "--engine", bundle, *question[1:]) for bundle in (fast_bundle, demo_fp32)]
    assert [one.returncode for one in said] == [0, 0], said[0].stderr
    assert said[0].stdout == said[1].stdout and (fast_bundle / "tokenizer.model").is_file()
