"""Rows as other people write them: read as the usual form, or named, and never learned as something else.

The kinds are those of public reports on fine-tuning LLaVA and its forks: `<image>` left in the text, other programs'
keys and roles, text cut amid an emoji, names of files from Windows and macOS.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
import torch
from PIL import Image

from mobilevlm.errors import UserError
from mobilevlm.image import ImageSpec
from mobilevlm.rows.rules import problem_of, why_unlearned
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.text.tokenizer import Tokenizer
from mobilevlm.train.data import NOTES, TrainingRows
from mobilevlm.train.data import read_rows as lazy_rows
from mobilevlm.train.prepare_data import parser, prepare
from tests.conftest import GOLDEN, ROOT, run
from tests.train.conftest import LLM, PICTURES, TOWER, refusal, train_here

SCRIPT = ROOT / "train" / "prepare_data.py"


def talk(question: str = "<image>\nWhat?", answer: object = "A square.") -> list[dict]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def openai(*said: str, roles=("user", "assistant")) -> list[dict]:
    return [{"role": roles[number % 2], "content": text} for number, text in enumerate(said)]


GOOD = {"id": "good", "image": "0.png", "conversations": talk()}
USER = {"from": "user", "value": "Which?"}
TEXT = {"id": "text", "conversations": talk("Which?")}
BLIND = "has <image> and no image: it would be learned as text"
LONG = "iVBORw0KGgo" * 400
BROKEN = {
    # `<image>` learned as the letters "<image>": reported for LLaVA fine-tuning on data of other programs
    "images": ({"images": ["0.png"], "conversations": talk()}, "has no image, and names some under images: call"),
    "images of messages": ({"images": ["0.png"], "messages": openai("<image>a?", "b")}, "names some under images"),
    "images and no token": ({"images": ["0.png"], "conversations": talk("What?")}, "names some under images"),
    "video": ({"video": "a.mp4", "conversations": talk()}, "has video, which the model cannot take in"),
    "video and its token": ({"video": "a.mp4", "conversations": talk("<video>\nWhat?")}, "has video, which"),
    "video beside an image": ({"video": "a.mp4", "image": "0.png", "conversations": talk()}, "has video, which"),
    "no image": ({"conversations": talk()}, BLIND),
    "image null": ({"image": None, "conversations": talk()}, BLIND),
    "token before a blank": ({"conversations": talk("<image> What?")}, BLIND),
    "token at the end": ({"conversations": talk("What?\n<image>")}, BLIND),
    "token in the second question": ({"conversations": talk("a?") + talk()}, BLIND),
    "another token": ({"conversations": talk("<video>\nWhat?")}, "has <video> and only <image> stands for an image"),
    "another token for an image": ({"conversations": talk("<|image_1|>\nWhat?")}, "has <|image_1|> and only <image>"),
    "another token beside": ({"image": "0.png", "conversations": talk("<image>\n<audio>\nWhat?")}, "has <audio> and"),
    "token as an answer": ({"conversations": talk("Draw.", "<image>")}, BLIND),
    # an answer that shows an image: no model of this kind writes one
    "token in the answer": ({"image": "0.png", "conversations": talk("Draw.", "<image>")}, "has <image> in an answer"),
    "token missing": ({"image": "0.png", "conversations": talk("What?")}, "has 1 image(s) and 0 time(s) <image>"),
    "token in two turns": ({"image": "0.png", "conversations": talk() * 2}, "has 1 image(s) and 2 time(s) <image>"),
    "token in capitals": ({"image": "0.png", "conversations": talk("<Image>\nWhat?")}, "0 time(s) <image>"),
    # roles and keys: reported for LLaVA fine-tuning as KeyError 'from', KeyError 'user'
    "a system turn": ({"messages": openai("Be brief.", "a?", "b", roles=("system", "user"))}, "turn 1 is from system"),
    "a tool": ({"messages": openai("a?", "b", roles=("user", "tool"))}, 'turn 2 is from "tool", not human or gpt'),
    "roles of two forms": ({"conversations": [talk()[0], {"from": "assistant", "value": "b"}]}, '"assistant", not'),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "no text in value, but a list"),
    "question and answer": ({"question": "a?", "answer": "b"}, "conversations is missing"),
    "turns as a text": ({"conversations": json.dumps(talk())}, "conversations is missing, empty or no list"),
    "turns out of order": ({"conversations": talk() + talk()[1:]}, "turns have to alternate"),
    # nothing to learn, or nothing as an answer: "tokenization mismatch" in LLaVA, a loss of nan
    "empty answer": ({"conversations": talk("a?", "")}, "turn 2 is empty"),
    "blank answer": ({"conversations": talk("a?", " \n")}, "turn 2 is empty"),
    "empty question": ({"conversations": talk("", "b")}, "turn 1 is empty"),
    "no answer": ({"conversations": talk("a?")[:1]}, "has no answer from gpt: nothing would be learned"),
    "nothing": ({}, "conversations is missing"),
    "NaN": ({"conversations": talk("a?", float("nan"))}, "turn 2 has no text in value"),
    # a text that was cut between the halves of an emoji: RuntimeError in SentencePiece
    "half an emoji": ({"conversations": talk("Color \ud83d?")}, r"turn 1 has half a character (\ud83d, a lone"),
    "half an emoji, answered": ({"conversations": talk("a?", "\ude00")}, r"turn 2 has half a character (\ude00"),
    "half an emoji in a name": ({"image": "\ud83d.png", "conversations": talk()}, "half a character in its name"),
    "half an emoji in an id": ({"id": "\ud83d"}, "conversations is missing"),
    # names that are none
    "address": ({"image": "https://example.org/a.jpg", "conversations": talk()}, "image is an address"),
    "data address": ({"image": "data:image/png;base64,AAAA", "conversations": talk()}, "image holds the image itself"),
    "base64": ({"image": LONG, "conversations": talk()}, "image is a text of 4400 characters, not a path"),
    "base64 with slashes": ({"image": "abcdefgh/" * 300, "conversations": talk()}, "of 2700 characters, not a path"),
    "NUL": ({"image": "a\0.png", "conversations": talk()}, "image has a NUL in its name"),
    "image empty": ({"image": "", "conversations": talk("a?")}, 'image is "", not a path or a list of paths'),
    "image an object": ({"image": {"path": "0.png"}, "conversations": talk()}, "not a path or a list of paths"),
    "image NaN": ({"image": float("nan"), "conversations": talk()}, "image is NaN, not a path"),
}
# The row, and the row in the usual form that is learned in its place.
READ = {
    "messages": ({"image": "0.png", "messages": openai("<image>\nWhat?", "A square.")}, GOOD),
    "user and assistant": (
        {"conversations": [{"from": "user", "value": "Which?"}, talk()[1] | {"from": "assistant"}]},
        TEXT,
    ),
    "roles in conversations": ({"conversations": openai("Which?", "A square.")}, TEXT),
    "messages beside null": ({"conversations": None, "messages": openai("Which?", "A square.")}, TEXT),
    "messages from human and gpt": ({"messages": talk("Which?")}, TEXT),
    "an empty system turn": ({"messages": [{"role": "system", "content": ""}, *openai("Which?", "A square.")]}, TEXT),
    "first turn by gpt": ({"image": "0.png", "conversations": [talk()[1], *talk()]}, GOOD),
    "token at the end": ({"image": "0.png", "conversations": talk("What?\n<image>")}, GOOD),
    "token twice in a turn": ({"image": "0.png", "conversations": talk("<image><image>What?")}, GOOD),
    "a list of one image": ({"image": ["0.png"], "conversations": talk()}, GOOD),
    "image null": ({"image": None, "conversations": talk("Which?")}, TEXT),
    "images empty": ({"images": [], "conversations": talk("Which?")}, TEXT),
    "the same id again": (GOOD | {"id": "good"}, GOOD),
    "no id": ({"image": "0.png", "conversations": talk()}, GOOD),
    "a blank in the name": (GOOD | {"image": "a b.png"}, GOOD),
    "a full path": (GOOD | {"image": str(PICTURES / "0.png")}, GOOD),
}
ABOUT_XML = {
    "both speak of it": talk("What does <image> do in SVG?", "The element <image> shows a file."),
    "amid a question": talk("Is <b> or <image> older?", "The former."),
    "an element that is closed": talk("<image>\n<url>a.png</url>\n</image>\nIs this RSS?", "Yes, a channel's <image>."),
    "HTML": talk("Mend it:\n<video>\n<source src='a.mp4'>\n</video>", "Add controls to <video>."),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """A folder with the image of the rows, also under names that people's systems write otherwise."""
    folder = tmp_path_factory.mktemp("images")
    content = (PICTURES / "0.png").read_bytes()
    for name in ("0.png", "a b.png", "sub/0.png", unicodedata.normalize("NFC", "é.png"), "Case.PNG"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(GOLDEN / "_common" / "tokenizer_small")


def written(path: Path, *rows: object) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def learned(path: Path, tokenizer: Tokenizer, images: Path) -> TrainingRows:
    return TrainingRows(lazy_rows(path), tokenizer, TEMPLATES["v1"], 2048, ImageSpec(28), images)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_row_that_cannot_be_learned_rightly_is_named_and_gives_way(kind, tokenizer, images, tmp_path):
    """Reported for LLaVA fine-tuning: such rows end a run, or are learned without their image and without a word.

    Public: axolotl-ai-cloud/axolotl pull request 781 and zjysteven/lmms-finetune issue 5 (other keys),
    TIGER-AI-Lab/VLM2Vec issue 65 (`<image>` without an image), LLaVA-VL/LLaVA-NeXT issue 459 (an image without
    `<image>`), lm-sys/FastChat pull request 628 (roles, order, empty turns), zjunlp/AutoAct issue 6 (other columns),
    huggingface/transformers issue 8886 (half a character), QwenLM/Qwen3-VL issue 171 (addresses).
    """
    row, problem = BROKEN[kind]
    rows = learned(written(tmp_path / "a.json", row, GOOD, TEXT), tokenizer, images)
    assert problem in rows.malformed[0] and set(rows.malformed) == {0}
    taken, (_, word, said) = rows[0], rows[0][NOTES][0]
    assert word == "replaced" and problem in said and said.encode()
    assert any(torch.equal(taken["input_ids"], rows[number]["input_ids"]) for number in (1, 2))


@pytest.mark.parametrize("kind", READ)
def test_a_row_of_another_form_is_learned_as_the_usual_one(kind, tokenizer, images, tmp_path):
    """ShareGPT's and OpenAI's forms: tokens, labels and pixels are those of the row as LLaVA would write it.

    Public: Tencent/AngelSlim issue 7 and hiyouga/LlamaFactory issue 6878 (roles and keys), haotian-liu/LLaVA issue 615
    and 2U1/Qwen-VL-Series-Finetune issue 43 (`<image>` at the end), openpsi-project/ReaLHF issue 43 (no id).
    """
    row, usual = READ[kind]
    rows = learned(written(tmp_path / "a.json", row, usual), tokenizer, images)
    assert not rows.malformed and rows[0][NOTES] == rows[1][NOTES] == []
    for name in ("input_ids", "labels", "images"):
        assert torch.equal(rows[0][name], rows[1][name]), name


@pytest.mark.parametrize("kind", ABOUT_XML)
def test_a_text_about_xml_stays_a_text(kind, tokenizer, images, tmp_path):
    """`<image>` is an element of SVG and RSS too, and conversations of the published mixtures speak of it.

    Public: hiyouga/LlamaFactory issue 5658 (elements of HTML).
    """
    turns = ABOUT_XML[kind]
    rows = learned(written(tmp_path / "a.json", {"conversations": turns}), tokenizer, images)
    assert not rows.malformed and rows[0][NOTES] == []
    answer = [token for token, label in zip(rows[0]["input_ids"], rows[0]["labels"], strict=True) if label != -100]
    assert tokenizer.decode([int(token) for token in answer]).startswith(turns[1]["value"])


UNLEARNED = {
    "last turn by human": (talk("a?") + talk("b?")[:1], "its last turn is a question without an answer"),
    "a separator in an answer": (talk("a?", "b ASSISTANT: c"), "turn 2 has ' ASSISTANT: ' in it"),
    "an end in a question": (talk("a </s> b?"), "turn 1 has '</s>' in it"),
}


@pytest.mark.parametrize("kind", UNLEARNED)
def test_a_row_that_teaches_nothing_is_named_before_training(kind, tokenizer, images, tmp_path, capsys):
    """LLaVA prints "tokenization mismatch" and goes on; here the check says so first, and training counts the row.

    Public: haotian-liu/LLaVA issues 661 and 1166.
    """
    turns, why = UNLEARNED[kind]
    path = written(tmp_path / "a.json", {"id": "odd", "conversations": turns}, TEXT)
    assert why_unlearned({"conversations": turns}).startswith(why)
    rows = learned(path, tokenizer, images)
    assert [note[1] for note in rows[0][NOTES]] == ["unlearned"] and rows[1][NOTES] == []
    prepare(parser().parse_args(["--json", str(path)]))
    assert f"row 0 (id odd): {why}" in capsys.readouterr().out


NAMES = {
    "backslashes": (r"sub\0.png", r"there is sub/0.png: write / instead of \ "),
    "NFD": (unicodedata.normalize("NFD", "é.png"), "there is é.png, in another Unicode form"),
    "another case": ("case.png", "there is Case.PNG"),
    "percent signs": ("a%20b.png", "there is a b.png"),
    "another ending": ("0.jpg", "there is 0.png"),
    "a blank at the end": ("0.png ", "there is 0.png"),
    "a path of Windows": (r"C:\data\0.png", "there is 0.png"),
    "a folder too many": ("coco/0.png", "there is 0.png"),
    "a folder": ("sub", ""),
    "nothing alike": ("zebra.png", ""),
}


@pytest.mark.parametrize("kind", NAMES)
def test_a_name_from_another_system_is_named_with_the_file_that_is_there(kind, tokenizer, images, tmp_path, capsys):
    """Reported for LLaVA fine-tuning on Windows and macOS: FileNotFoundError though the file is there.

    Public: AILab-CVC/YOLO-World issue 535 (backslashes), llmsresearch/paperbanana pull request 240 (NFD),
    haotian-liu/LLaVA issues 593 and 601 (another ending).
    """
    name, found = NAMES[kind]
    path = written(tmp_path / "a.json", GOOD | {"image": name, "id": "odd"}, GOOD)
    with pytest.raises(UserError, match="1 of 1 data sets not ready"):
        prepare(parser().parse_args(["--json", str(path), "--images", str(images)]))
    out = capsys.readouterr().out
    assert f"row 0 (id odd): {name}" in out and found.strip() in out
    rows = learned(path, tokenizer, images)
    [(_, word, said)] = rows[0][NOTES]
    assert word == "replaced" and name in said and found.strip() in said


def test_prepare_data_names_every_kind_in_one_run(images, tmp_path):
    """The real process: all broken kinds in one file, each named by row and reason, and no traceback.

    Public: lm-sys/FastChat pull request 628.
    """
    path = written(tmp_path / "a.json", GOOD, *(row for row, _ in BROKEN.values()))
    done = run(SCRIPT, "--json", path, "--images", images, "--report", tmp_path / "report.json")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (found,) = json.loads((tmp_path / "report.json").read_text())
    assert [fault["row"] for fault in found["faults"]] == list(range(1, len(BROKEN) + 1))
    for fault, (_, problem) in zip(found["faults"], BROKEN.values(), strict=True):
        assert problem in fault["why"]


def test_finetune_learns_from_the_rest(images, tmp_path, capfd):
    """A real run over all of them ends, with every broken row replaced and counted.

    Public: modelscope/ms-swift issue 3275.
    """
    rows = [row for row, _ in BROKEN.values()]
    path = written(tmp_path / "a.json", *rows, *(row for row, _ in READ.values()), GOOD, TEXT)
    options = ("--model", LLM, "--vision-tower", TOWER, "--images", images, "--mm-projector-type", "ldpnet")
    train_here("v1_stage2_1.7b", path, tmp_path / "out", *options)
    assert f"{len(rows)} rows replaced" in "".join(capfd.readouterr())


def test_finetune_names_why_no_row_can_be_used(tmp_path):
    path = written(tmp_path / "a.json", BROKEN["images"][0])
    said = refusal("v1_stage2_1.7b", path, tmp_path / "out", "--model", LLM, "--vision-tower", TOWER)
    assert "none of the 1 rows can be used; row 0: has no image, and names some under images" in said


def test_captions_without_words_or_with_an_image_in_them_are_named():
    """Stage 1: an empty caption teaches to say nothing, and `images` hides what it is about."""
    assert problem_of(GOOD | {"conversations": talk("<image>", " ")}, "plain") == "turn 2 is empty"
    assert "has <image> in an answer" in str(
        problem_of({"image": ["a", "b"], "conversations": talk("<image>", "<image>")}, "plain")
    )
    assert "under images" in str(problem_of({"images": ["a"], "conversations": talk("<image>")}, "plain"))
    assert problem_of(GOOD | {"conversations": talk("<image>", "a box")}, "plain") is None


def test_an_image_that_cannot_be_listed_is_missing_and_no_traceback(tmp_path, capsys):
    """A file where a folder should be."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    path = written(tmp_path / "a.json", GOOD | {"image": "a.png/b.png"})
    with pytest.raises(UserError, match="not ready"):
        prepare(parser().parse_args(["--json", str(path), "--images", str(tmp_path)]))
    assert "row 0 (id good): a.png/b.png" in capsys.readouterr().out
