"""POPE: confusion matrices worked out by hand, the labels' order, and the official script on what is handed in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilevlm.errors import UserError
from mobilevlm.eval.task import SHORT_ANSWER, Answer
from mobilevlm.eval.tasks.pope import Pope, says_yes

TASK = Pope()
# Category and label of each question. LLaVA's file has the categories in another order than the alphabet.
ASKED = (
    *(("adversarial", label) for label in ("yes", "yes", "yes", "yes", "no", "no", "no", "no", "no", "no")),
    *(("random", label) for label in ("yes", "no", "no")),
    *(("popular", label) for label in ("no", "yes")),
)


def write(data: Path, asked: Sequence[tuple[str, str]] = ASKED, same_ids: bool = False) -> Path:
    """A data directory with these questions; POPE's own below it. The labels' ids are, as in fact, not those."""
    folder = data / "benchmark_data/pope"
    (folder / "coco").mkdir(parents=True, exist_ok=True)
    rows, labels = [], {"adversarial": [], "popular": [], "random": []}
    for number, (category, label) in enumerate(asked):
        place = len(labels[category])
        text, image = f"Is there a thing{place} in the image?", f"COCO_{category}_{place}.jpg"
        name = place if same_ids else 1000 + number
        rows.append({"question_id": name, "image": image, "text": text + SHORT_ANSWER, "category": category})
        labels[category].append({"question_id": 77 + place, "image": image, "text": text, "label": label})
    lines(folder / "llava_pope_test.jsonl", rows)
    for category, found in labels.items():
        lines(folder / f"coco/coco_pope_{category}.json", found)
    return folder


def lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers(data: Path, *texts: str, failed: Sequence[int] = ()) -> list[Answer]:
    """Answers to the first questions; `failed` are numbers of some."""
    asked = TASK.questions(data)
    return [Answer(asked[n].id, asked[n].prompt, text, failed=n in failed) for n, text in enumerate(texts)]


def scores(data: Path, given: Sequence[Answer]) -> dict[str, float]:
    return TASK.metrics(TASK.counts(data, given).total())


ALL = ("Yes", "yes.", "no", "No", "yes", "Yes, there is", "no", "not", "no.", "No, sir", "no", "no", "no", "yes", "yes")


def test_scores_by_hand(tmp_path):
    write(tmp_path)
    found = scores(tmp_path, answers(tmp_path, *ALL))
    # Adversarial, labels yyyy nnnnnn, said yynn yynnnn: tp 2, fn 2, fp 2, tn 4.
    assert found["adversarial_accuracy"] == 60  # (2 + 4) of 10
    assert found["adversarial_precision"] == 50  # 2 of 4 said yes
    assert found["adversarial_recall"] == 50  # 2 of 4 are yes
    assert found["adversarial_f1"] == 50
    assert found["adversarial_yes_ratio"] == 40
    # Random, labels y nn, said n nn: tp 0, fn 1, fp 0, tn 2. Precision is 0/0.
    assert found["random_accuracy"] == pytest.approx(200 / 3)
    assert (found["random_precision"], found["random_recall"], found["random_f1"]) == (0, 0, 0)
    assert found["random_yes_ratio"] == 0
    # Popular, labels n y, said y y: tp 1, fp 1. F1 = 2 * 0.5 * 1 / 1.5.
    assert found["popular_precision"] == 50
    assert found["popular_recall"] == 100
    assert found["popular_f1"] == pytest.approx(200 / 3)
    assert found["popular_yes_ratio"] == 100
    # Means of the categories, not of all questions (that would be an accuracy of 9/15).
    assert found["f1"] == pytest.approx((50 + 0 + 200 / 3) / 3)
    assert found["accuracy"] == pytest.approx((60 + 200 / 3 + 50) / 3)
    assert found["yes_ratio"] == pytest.approx((40 + 0 + 100) / 3)
    assert len(found) == 3 + 3 * 5


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("No", False),
        ("no.", False),
        ("No, there is no dog", False),
        ("There is not.", False),
        ("Yes. There is no dog", True),  # only the first sentence
        ("There isn't", True),
        ("NO", True),  # the official script knows No and no
        ("nothing", True),
        ("no\nyes", True),  # words end at blanks only
        ("no!", True),
        (",no", False),
        ("n,o", False),  # commas are dropped, not exchanged for blanks
        ("", True),
        (".no", True),
    ],
)
def test_the_reading_of_an_answer(text, yes):
    assert says_yes(text) is yes


def test_a_failed_answer_is_the_opposite_of_its_label(tmp_path):
    write(tmp_path, [("random", "yes"), ("random", "no")])
    total = TASK.counts(tmp_path, answers(tmp_path, "yes", "no", failed=(0, 1))).total()
    assert {name: n for name, n in total.items() if n} == {"random_fn": 1, "random_fp": 1}


def test_a_partial_run_is_graded_over_what_was_asked(tmp_path):
    write(tmp_path)
    found = scores(tmp_path, answers(tmp_path, "yes", "yes", "no"))
    assert found["f1"] == found["adversarial_f1"] == pytest.approx(80)  # tp 2, fn 1: precision 1, recall 2/3
    assert not [name for name in found if name.startswith(("random", "popular"))]
    assert scores(tmp_path, []) == {"f1": 0, "accuracy": 0, "yes_ratio": 0}


def test_ids_that_the_categories_share_are_told_apart_by_order(tmp_path):
    # Ids 0 1 | 0 1 | 0, labels yn | ny | y. Everything right; by the first or last row of an id, some would be wrong.
    asked = [("adversarial", "yes"), ("adversarial", "no"), ("random", "no"), ("random", "yes"), ("popular", "yes")]
    write(tmp_path, asked, same_ids=True)
    counts = TASK.counts(tmp_path, answers(tmp_path, "yes", "no", "no", "yes", "yes"))
    found = {name: n for name, n in counts.total().items() if n}
    assert found == {"adversarial_tp": 1, "adversarial_tn": 1, "random_tp": 1, "random_tn": 1, "popular_tp": 1}
    assert len(set(counts.ids)) == 5
    part = TASK.counts(tmp_path, answers(tmp_path, "yes", "no", "no"))
    assert {name: n for name, n in part.total().items() if n} == {
        "adversarial_tp": 1,
        "adversarial_tn": 1,
        "random_tn": 1,
    }


def test_the_order_of_the_answers_is_of_no_matter_where_ids_are_unique(tmp_path):
    write(tmp_path)
    given = answers(tmp_path, *ALL)
    assert scores(tmp_path, given[::-1]) == scores(tmp_path, given)


def test_answers_that_do_not_fit_the_questions_are_refused(tmp_path):
    folder = write(tmp_path)
    given = answers(tmp_path, "yes")
    for wrong in ([*given, *given], [Answer(1, "", "yes")]):
        with pytest.raises(UserError) as error:
            TASK.counts(tmp_path, wrong)
        assert str(error.value) == (
            f"more answers to question {wrong[-1].id} than {folder}/llava_pope_test.jsonl has of it"
        )


def test_labels_of_another_release_are_refused(tmp_path):
    folder = write(tmp_path)
    path = folder / "coco/coco_pope_random.json"
    labels = read(path)
    for spoiled, problem in (
        (labels[:2], f"{path} has 2 labels, {folder}/llava_pope_test.jsonl 3 such questions"),
        ([labels[0], labels[2], labels[1]], f"{path}, row 1 is for ('COCO_random_2.jpg'"),
        ([labels[0], labels[1] | {"image": "COCO_other.jpg"}, labels[2]], f"{path}, row 1 is for ('COCO_other.jpg'"),
        ([labels[0], labels[1] | {"text": "Is there a fox in the image?"}, labels[2]], f"{path}, row 1 is for ("),
        ([labels[0] | {"label": "maybe"}, *labels[1:]], f"{path}, row 0: label is 'maybe'"),
    ):
        lines(path, spoiled)
        with pytest.raises(UserError) as error:
            TASK.counts(tmp_path, answers(tmp_path, "yes"))
        assert str(error.value).startswith(problem)
        assert "POPE, folder output/coco (github.com/AoiDragon/POPE)" in str(error.value)


def test_a_spelling_mistake_of_the_first_release_is_no_other_question(tmp_path):
    folder = write(tmp_path, [("random", "yes")])
    (row,) = read(folder / "llava_pope_test.jsonl")
    lines(folder / "llava_pope_test.jsonl", [row | {"text": row["text"].replace("image", "imange")}])
    assert scores(tmp_path, answers(tmp_path, "yes"))["random_f1"] == 100


def test_labels_without_image_and_text_are_matched_by_order_alone(tmp_path):
    folder = write(tmp_path, [("random", "yes"), ("random", "no")])
    lines(folder / "coco/coco_pope_random.json", [{"label": "yes"}, {"label": "no"}])
    given = answers(tmp_path, "yes", "no")
    assert scores(tmp_path, given)["random_accuracy"] == 100
    (path,) = TASK.submission(tmp_path, given, tmp_path)
    assert read(path)[0] == {"question": "Is there a thing0 in the image?", "answer": "yes"}


def test_files_are_named_that_are_missing_or_have_another_category(tmp_path):
    folder = write(tmp_path)
    (folder / "coco/coco_pope_random.json").unlink()
    with pytest.raises(UserError, match=r"coco_pope_random.json is missing: download POPE, folder output/coco"):
        TASK.counts(tmp_path, [])
    write(tmp_path, [("random", "yes")])
    (row,) = read(folder / "llava_pope_test.jsonl")
    lines(folder / "llava_pope_test.jsonl", [row | {"category": "odd"}])
    with pytest.raises(UserError, match="llava_pope_test.jsonl, row 0: category is 'odd'"):
        TASK.counts(tmp_path, [])


def test_the_files_for_the_official_script(tmp_path):
    write(tmp_path, [("random", "yes"), ("adversarial", "no"), ("random", "no")])
    given = answers(tmp_path, "Yes, indeed", "yes", "", failed=(1, 2))
    paths = TASK.submission(tmp_path, given[::-1], tmp_path)
    assert [path.name for path in paths] == ["coco_pope_adversarial_answers.json", "coco_pope_random_answers.json"]
    assert read(paths[0]) == [{"question": "Is there a thing0 in the image?", "answer": "yes"}]
    assert read(paths[1]) == [
        {"question": "Is there a thing0 in the image?", "answer": "Yes, indeed"},
        {"question": "Is there a thing1 in the image?", "answer": "yes"},  # failed, and the label is no
    ]


def official(said: Path, labels: Path) -> dict[str, float]:
    """Scores as POPE's evaluate.py defines them, from the two files, with 0 for 0/0."""
    no = re.compile(r"(?:\A| )(?:No|no|not)(?: |\Z)")
    pairs = [
        (not no.search(answer["answer"].partition(".")[0].replace(",", "")), label["label"] == "yes")
        for answer, label in zip(read(said), read(labels), strict=False)  # a partial run's answers are fewer
    ]
    hits = sum(yes and label for yes, label in pairs)
    claimed, there = sum(yes for yes, _ in pairs), sum(label for _, label in pairs)
    precision, recall = hits / claimed if claimed else 0, hits / there if there else 0
    return {
        "accuracy": sum(yes == label for yes, label in pairs) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall else 0,
        "yes_ratio": claimed / len(pairs),
    }


WORDS = st.lists(st.sampled_from(["no", "No", "not", "yes", "NO", " ", " ", ",", ".", "\n"]), max_size=6).map("".join)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["adversarial", "popular", "random"]), st.sampled_from(["yes", "no"])),
        min_size=1,
        max_size=12,
    ),
    texts=st.lists(WORDS, min_size=12, max_size=12),
    failed=st.sets(st.integers(0, 11), max_size=3),
    asked=st.integers(1, 12),
    same_ids=st.booleans(),
)
def test_the_official_script_gives_the_same_scores(tmp_path_factory, rows, texts, failed, asked, same_ids):
    data = tmp_path_factory.getbasetemp() / "pope"
    folder = write(data, rows, same_ids)
    given = answers(data, *texts[: min(asked, len(rows))], failed=failed)
    found = scores(data, given)
    expected = {}
    for path in TASK.submission(data, given, data):
        category = path.name.split("_")[2]
        theirs = official(path, folder / f"coco/coco_pope_{category}.json")
        expected |= {f"{category}_{name}": 100 * value for name, value in theirs.items()}
    for name in ("f1", "accuracy", "yes_ratio"):
        values = [value for key, value in expected.items() if key.endswith(f"_{name}")]
        expected[name] = sum(values) / len(values)
    assert found == pytest.approx(expected)
