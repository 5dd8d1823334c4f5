"""MME: accuracy and acc+ worked out by hand, the official questions' keys, and calculation.py on what is handed in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.errors import UserError
from mobilevlm.eval.task import SHORT_ANSWER, Answer
from mobilevlm.eval.tasks.mme import COGNITION, PERCEPTION, Mme, official_key, said

TASK = Mme()
PICTURES = ("count/0001.png", "artwork/images/77.jpg", "count/0002.png", "code_reasoning/0003.png")


def write(data: Path, pictures: Sequence[str] = PICTURES, root: str = "images") -> Path:
    """A data directory in which each picture has a question to be answered yes, then one no; MME's own below it.

    Categories whose pictures are in a folder `images` have the answers in another, as in the release.
    """
    folder = data / "benchmark_data/mme"
    rows = []
    for picture in pictures:
        category, name = picture.split("/")[0], Path(picture).stem
        truths = folder / root / category / ("questions_answers_YN" if "/images/" in picture else "")
        truths.mkdir(parents=True, exist_ok=True)
        asked = [f"Is {name} {what}?" for what in ("right", "wrong")]
        (truths / f"{name}.txt").write_text(
            f"{asked[0]} Please answer yes or no.\tYes\n{asked[1]} Please answer yes or no.\tNo\n"
        )
        row = {"question_id": picture, "image": picture, "category": category}
        rows += [row | {"text": text + SHORT_ANSWER} for text in asked]
    (folder / "llava_mme.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def answers(data: Path, *texts: str, failed: Sequence[int] = ()) -> list[Answer]:
    """Answers to the first questions; `failed` are numbers of some."""
    asked = TASK.questions(data)
    return [Answer(asked[n].id, asked[n].prompt, text, failed=n in failed) for n, text in enumerate(texts)]


def scores(data: Path, given: Sequence[Answer]) -> dict[str, float]:
    return TASK.metrics(TASK.counts(data, given).total())


def test_scores_by_hand(tmp_path):
    write(tmp_path)
    # count: 0001 both right, 0002 one right (the other is neither yes nor no): 3 of 4, 1 of 2 pictures: 75 + 50.
    # artwork: right, wrong: 1 of 2, no picture: 50. code_reasoning: both right: 100 + 100.
    given = answers(tmp_path, "Yes.", "No", "yes", "yes", "I think yes", "no", "yes", "no")
    counts = TASK.counts(tmp_path, given)
    assert counts.ids == list(PICTURES)
    assert TASK.metrics(counts.total()) == {
        "perception": 175,
        "cognition": 200,
        "count": 125,
        "artwork": 50,
        "code_reasoning": 200,
    }
    assert counts.rows.sum(1).tolist() == [2 + 2 + 1 + 1, 2 + 1 + 1 + 0, 2 + 1 + 1 + 0, 2 + 2 + 1 + 1]


def test_the_best_are_2000_and_800(tmp_path):
    write(tmp_path, [f"{category}/1.png" for category in PERCEPTION + COGNITION])
    found = scores(tmp_path, answers(tmp_path, *("yes", "no") * 14))
    assert (found["perception"], found["cognition"], len(found)) == (2000, 800, 16)
    # Everybody who always says yes has half of the answers and no picture: 10 * 50, 4 * 50.
    found = scores(tmp_path, answers(tmp_path, *("yes",) * 28))
    assert (found["perception"], found["cognition"]) == (500, 200)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Yes", "yes"),
        ("YES, it is", "yes"),
        (" yes", "yes"),
        ("  yes", "other"),  # only "  ye" is looked at
        ("No", "no"),
        ("not sure", "no"),
        ("I know", "other"),
        ("a no", "no"),
        ("It is not", "other"),
        ("noye", "no"),
        ("", "other"),
    ],
)
def test_the_reading_of_an_answer(text, meaning):
    assert said(text) == meaning


def test_neither_yes_nor_no_is_wrong_for_both_questions(tmp_path):
    write(tmp_path, ["OCR/1.png"])
    assert scores(tmp_path, answers(tmp_path, "perhaps", "perhaps"))["OCR"] == 0


def test_a_failed_answer_is_wrong_though_its_text_is_right(tmp_path):
    write(tmp_path, ["OCR/1.png"])
    assert scores(tmp_path, answers(tmp_path, "yes", "no", failed=(1,)))["OCR"] == 50  # 1 of 2, and not both


def test_a_partial_run_is_graded_over_what_was_asked(tmp_path):
    write(tmp_path)
    # The first picture has one of its answers: it has no say in acc+, and counts in the accuracy.
    assert scores(tmp_path, answers(tmp_path, "yes")) == {"perception": 100, "cognition": 0, "count": 100}
    # 0001 both right; artwork wrong, right; 0002 one answer, wrong: count 2 of 3 and 1 of 1 pictures.
    found = scores(tmp_path, answers(tmp_path, "yes", "no", "no", "no", "no"))
    assert found["count"] == pytest.approx(200 / 3 + 100)
    assert found["artwork"] == 50
    assert scores(tmp_path, []) == {"perception": 0, "cognition": 0}


def test_the_headline_is_over_the_questions_of_perception(tmp_path):
    write(tmp_path, ["OCR/1.png", "code_reasoning/1.png"])
    assert TASK.graded(TASK.counts(tmp_path, answers(tmp_path, "yes", "no", "yes", "no")).total()) == 2


def test_the_ending_is_exchanged_for_the_official_one():
    prompt = f"Is it?{SHORT_ANSWER}"
    one, two = "Is it? Please answer yes or no.", "Is it?  Please answer yes or no."
    key = ("count", "0001.txt", one)
    assert official_key("count/0001.png", prompt, {key}) == key
    # Where one space is not known, the original takes two without looking.
    assert official_key("count/0001.png", prompt, set()) == ("count", "0001.txt", two)
    # The other file's question is no match.
    assert official_key("count/images/0001.png", prompt, {("count", "0002.txt", one)})[2] == two
    # An ending that is there already is kept.
    assert official_key("count/0001.png", f"{two}{SHORT_ANSWER}", {key})[2] == two


def test_two_spaces_before_the_official_ending(tmp_path):
    folder = write(tmp_path, ["OCR/1.png"])
    path = folder / "images/OCR/1.txt"
    path.write_text(path.read_text().replace(" Please", "  Please", 1))  # of the first question only
    given = answers(tmp_path, "yes", "no")
    assert scores(tmp_path, given)["OCR"] == 200
    (sent,) = TASK.submission(tmp_path, given, tmp_path)
    first, second = sent.read_text().splitlines()
    assert first.split("\t")[1] == "Is 1 right?  Please answer yes or no."
    assert second.split("\t")[1] == "Is 1 wrong? Please answer yes or no."


def test_truths_are_found_in_the_release_beside_the_images(tmp_path):
    write(tmp_path, root="MME_Benchmark_release_version")
    assert scores(tmp_path, answers(tmp_path, *("yes", "no") * 4))["perception"] == 400


def test_truths_beside_a_folder_of_images_are_not_taken_for_others(tmp_path):
    folder = write(tmp_path, ["artwork/images/77.jpg"])
    (folder / "images/artwork/notes.txt").write_text("no question\n")
    assert scores(tmp_path, answers(tmp_path, "yes", "no"))["artwork"] == 200


def test_missing_truths_are_named_with_who_offers_them(tmp_path):
    folder = write(tmp_path)
    (folder / "images/artwork/questions_answers_YN/77.txt").unlink()
    with pytest.raises(UserError) as error:
        TASK.counts(tmp_path, answers(tmp_path, "yes", "no", "yes"))
    assert str(error.value).startswith(
        f"{folder}/images/artwork/questions_answers_YN/*.txt are missing: download MME_Benchmark_release_version"
    )


@pytest.mark.parametrize("bad", [b"Is it?", b"Is it?\tmaybe", b"Is\tit?\tYes", b"Is it?\tYes\tNo", b"Is it\xff?\tYes"])
def test_a_damaged_line_is_named(tmp_path, bad):
    path = write(tmp_path) / "images/count/0001.txt"
    path.write_bytes(b"Is it? Please answer yes or no.\tYes\r\n\n" + bad)
    with pytest.raises(UserError) as error:
        TASK.counts(tmp_path, answers(tmp_path, "yes"))
    assert str(error.value).startswith(f"{path}, line 3 is not a question, a tab and Yes or No. Download it again: ")


def test_categories_and_questions_that_mme_does_not_have_are_refused(tmp_path):
    folder = write(tmp_path)
    with pytest.raises(UserError, match="^smells/1.png is of no category of MME; these are existence, count"):
        TASK.counts(tmp_path, [Answer("smells/1.png", "", "yes")])
    with pytest.raises(UserError, match="the answers have count/0001.png, 'Is it blue.', which MME does not ask"):
        TASK.counts(tmp_path, [Answer("count/0001.png", "Is it blue?", "yes")])
    with pytest.raises(UserError, match="image count/0001.png of MME has 4 answers, it can have two"):
        TASK.counts(tmp_path, answers(tmp_path, "yes", "no") * 2)
    write(tmp_path, ["count/1.png", "smells/1.png"])
    with pytest.raises(UserError) as error:
        TASK.questions(tmp_path)
    assert str(error.value).startswith(f"{folder}/llava_mme.jsonl, row 2: smells/1.png is of no category")


def test_the_files_for_the_official_script(tmp_path):
    write(tmp_path)
    paths = TASK.submission(tmp_path, answers(tmp_path, "Yes,\tit\nis", "no", "yes", "no", failed=(2,)), tmp_path)
    assert paths == [tmp_path / "count.txt", tmp_path / "artwork.txt"]
    assert paths[0].read_text() == (
        "0001.txt\tIs 0001 right? Please answer yes or no.\tYes\tYes, it is\n"
        "0001.txt\tIs 0001 wrong? Please answer yes or no.\tNo\tno\n"
    )
    assert paths[1].read_text().splitlines()[0] == "77.txt\tIs 77 right? Please answer yes or no.\tYes\t"


def official(path: Path) -> float:
    """The score of a category as calculation.py of MME defines it: lines in pairs, the last answer with its newline."""
    lines = path.read_text().splitlines(keepends=True)
    right = []
    for line in lines:
        _, _, truth, text = line.split("\t")
        text = text.lower()
        if text not in ("yes", "no"):
            text = "yes" if "yes" in text[:4] else "no" if "no" in text[:4] else "other"
        right.append(text == truth.lower())
    pairs = list(zip_longest(right[::2], right[1::2]))
    return 100 * sum(right) / len(right) + 100 * sum(all(pair) for pair in pairs) / len(pairs)


TEXTS = st.sampled_from(["yes", "No", "", "Yes.", "not", "I do", "a yes", "\tyes", "\t\tno", "no\nyes", "well yes"])


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    pictures=st.lists(st.sampled_from(["count", "OCR", "scene", "code_reasoning"]), min_size=1, max_size=6),
    texts=st.lists(TEXTS, min_size=12, max_size=12),
    failed=st.sets(st.integers(0, 11), max_size=3),
)
def test_the_official_script_gives_the_same_scores(tmp_path_factory, pictures, texts, failed):
    data = tmp_path_factory.getbasetemp() / "mme"
    names = [f"{category}/{number}.png" for number, category in enumerate(pictures)]
    write(data, names)
    given = answers(data, *texts[: 2 * len(names)], failed=failed)
    expected = {path.stem: official(path) for path in TASK.submission(data, given, data)}
    code = expected.get("code_reasoning", 0)
    sums = {"perception": sum(expected.values()) - code, "cognition": code}
    assert scores(data, given) == pytest.approx(sums | expected)
