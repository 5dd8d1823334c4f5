"""The training file as --calibration: taken as training takes it, only as far as it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mobilevlm.checkpoint.checkpoint import open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.export.calibration.agreement_set import make_check
from mobilevlm.export.calibration.conversations import DEFAULT, MOST_BROKEN, embedded, read_conversations
from tests.conftest import DEMO, ROOT, build
from tests.train.conftest import PICTURES

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A red square."}]
TEXT = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "Blue."}]
IMAGE = str(PICTURES / "0.png")
GOOD = {"id": "good", "image": IMAGE, "conversations": TURNS}
OPENAI = [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "A red square."}]


def written(path: Path, *rows: object, encoding: str = "utf-8") -> Path:
    lines = "\r\n".join(map(json.dumps, rows)) + "\r\n"
    path.write_bytes((lines if path.suffix == ".jsonl" else json.dumps(rows)).encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_the_files_that_training_reads_are_read(name, encoding, tmp_path):
    """Refused before as no JSON: a file of lines, a byte order mark, CRLF, UTF-16.

    Public: NVIDIA/TensorRT-LLM pull request 1762.
    """
    found = read_conversations(written(tmp_path / name, GOOD, {"conversations": TEXT}, encoding=encoding))
    assert [row["conversations"] for row in found.rows] == [TURNS, TEXT] and found.skipped == ()


TAKEN = {
    "first turn by gpt": {"image": IMAGE, "conversations": [TEXT[1], *TURNS]},
    "messages": {"image": IMAGE, "messages": OPENAI},
    "image null": {"image": None, "conversations": TEXT},
    "a question left open": {"image": IMAGE, "conversations": [*TURNS, TEXT[0]]},
    "an image without <image>": {"image": IMAGE, "conversations": TEXT},
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_row_that_training_takes_is_taken(kind, tmp_path):
    """Embeddings are those of the row as it is usually written; the check of candidates goes through it as well.

    Public: Tencent/AngelSlim issue 7 (calibration on rows of ShareGPT).
    """
    checkpoint = open_checkpoint(DEMO)
    found = read_conversations(written(tmp_path / "a.json", TAKEN[kind]))
    (one,) = embedded(checkpoint, found)
    if kind in ("first turn by gpt", "messages"):
        (usual,) = embedded(checkpoint, read_conversations(written(tmp_path / "b.json", GOOD)))
        assert one.equal(usual)
    assert make_check(checkpoint, found)["counts"][0] > 0


BROKEN = {
    "image empty": ({"image": "", "conversations": TEXT}, 'image is "", not a path or a list of paths'),
    "images": ({"images": [IMAGE], "conversations": TURNS}, "names some under images: call the key image"),
    "video": ({"video": "a.mp4", "conversations": TURNS}, "has video, which the model cannot take in"),
    "no image": ({"conversations": TURNS}, "has <image> and no image"),
    "half an emoji": ({"conversations": [TEXT[0] | {"value": "\ud83d"}, TEXT[1]]}, "half a character"),
    "empty answer": ({"conversations": [TEXT[0], TEXT[1] | {"value": ""}]}, "turn 2 is empty"),
    "a lost image": ({"image": "none.png", "conversations": TURNS}, "none.png is missing"),
    "a long name": ({"image": "A" * 5000, "conversations": TURNS}, "not a path"),
    "no answer": ({"conversations": TEXT[:1]}, "has no answer from gpt"),
    "system": ({"messages": [{"role": "system", "content": "x"}, *OPENAI]}, "turn 1 is from system"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_row_is_skipped_and_named_and_a_file_of_them_refused(kind, tmp_path):
    """As training replaces it; before, `images` and `video` calibrated on the letters of <image> without a word.

    Public: thu-nics/MBQ issue 13 (a calibration file whose images are not all there).
    """
    row, problem = BROKEN[kind]
    found = read_conversations(written(tmp_path / "a.json", row | {"id": 7}, GOOD))
    assert [one["id"] for one in found.rows] == ["good"]
    (said,) = found.skipped
    assert f"{tmp_path / 'a.json'}, row 0 (id 7): " in said and problem in said
    with pytest.raises(UserError, match="row 0: .* none of the first 1 rows can be used") as error:
        read_conversations(written(tmp_path / "b.json", row))
    assert problem in str(error.value)


def test_a_pipe_is_read(tmp_path):
    """`--calibration <(head -n 100 rows.jsonl)` of a shell. Public: noahmorrison/chevron issue 26."""
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(json.dumps(GOOD) + "\n",))
    writer.start()
    assert len(read_conversations(pipe).rows) == 1
    writer.join()


def test_a_file_without_a_usable_row_is_given_up(tmp_path):
    path = written(tmp_path / "a.jsonl", *[BROKEN["no image"][0]] * (MOST_BROKEN + 5))
    with pytest.raises(UserError, match=f"none of the first {MOST_BROKEN} rows"):
        read_conversations(path)


def test_only_the_rows_that_are_needed_are_read(tmp_path):
    """A file of 91 MB took 537 MiB; now the process grows by less than a tenth of that, and damage behind is unseen.

    Public: microsoft/onnxruntime issue 11020 and IST-DASLab/gptq pull request 58.
    """
    row = json.dumps({"conversations": [TEXT[0] | {"value": "What is it? " * 100}, TEXT[1]]})
    path = tmp_path / "large.json"
    path.write_text("[" + ", ".join([row] * (91_000_000 // len(row))) + ", {cut")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from mobilevlm.export.calibration.conversations import read_conversations\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used(); rows = read_conversations(Path(sys.argv[1])).rows; print(len(rows), used() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], cwd=ROOT, capture_output=True, text=True, check=True)
    rows, grown = map(int, done.stdout.split())
    assert rows == 32 and grown < 50 * 1024, f"{grown} KiB"


def test_a_build_takes_a_training_file_and_names_what_it_skips(tmp_path):
    """The real command: lines with a mark and CRLF, a first turn by gpt, and two rows that cannot be used.

    Public: thu-nics/MBQ issue 13.
    """
    shown = [row for row in json.loads(DEFAULT.read_text()) if "image" in row][:2]
    rows = [row | {"image": str(DEFAULT.parent / row["image"])} for row in shown]
    rows[0]["conversations"].insert(0, TEXT[1])
    broken = [BROKEN["image empty"][0], BROKEN["images"][0] | {"id": "i"}]
    path = written(tmp_path / "a.jsonl", broken[0], rows[0], broken[1], rows[1], encoding="utf-8-sig")
    words = ("--model", DEMO, "--precision", "vision=fp32,decoder=int4", "--calibration", path)
    done = build(*words, out=tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f'{path}, row 0: image is ""' in done.stderr and f"{path}, row 2 (id i): has no image" in done.stderr
    assert "GPTQ on 2 conversations" in (tmp_path / "out" / "report.md").read_text()
