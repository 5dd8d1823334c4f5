"""MME: two questions about each image, one to be answered yes and one no, in fourteen categories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mobilevlm.errors import UserError

from ..jsonl import lines_of, read_questions
from ..task import SHORT_ANSWER, Answer, ClosedQuestion, Counts, Question, Task, yes_or_no

PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
CATEGORIES = PERCEPTION + COGNITION
COLUMNS = ("questions", "right", "pictures", "both")
# How the official questions end; LLaVA has another ending in its place.
ENDING = "Please answer yes or no."

# Category, the image's name with .txt, question.
Key = tuple[str, str, str]


class Mme(Task):
    """MME: the score of a category is accuracy plus acc+ (images with both answers right), each in percent.

    The headline is the sum over the ten categories of perception, 2000 at best. As calculation.py of MME has it, after
    LLaVA's conversion of the answers.
    """

    name = "mme"
    title = "MME"
    headline = "perception"

    def questions(self, data: Path) -> list[Question]:
        """Questions of LLaVA's file, see `Task.questions`."""
        questions = read_questions(self.files, data)
        for number, question in enumerate(questions):
            _category(question.id, f"{data / self.files.annotations}, row {number}: ")
        return questions

    def closed_questions(self, data: Path) -> list[ClosedQuestion]:
        """All questions, with yes and no; see `Task.closed_questions`."""
        questions = self.questions(data)
        truths = self._with_truth(data, [question.answered("") for question in questions])
        return [yes_or_no(one, truth.lower() == "yes") for one, ((*_, truth), _) in zip(questions, truths, strict=True)]

    def unasked(self, data: Path, questions: Sequence[Question]) -> int:
        """Questions of the categories' files that LLaVA's file lacks; see `Task.unasked`."""
        asked = {tuple(key) for (*key, _), _ in self._with_truth(data, [one.answered("") for one in questions])}
        return sum(len(set(self._found(data, category)) - asked) for category in CATEGORIES)

    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade answers; neither yes nor no is wrong. A unit is one image.

        A partial run is graded over what was asked: an image with one of its two answers counts in the accuracy, but
        not in acc+.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: an answer to a question or category that MME does not have, more than two to an image, or two to
                one question.
        """
        right: dict[str, list[bool]] = {}
        asked: dict[str, set[str]] = defaultdict(set)
        for (_, _, question, truth), answer in self._with_truth(data, answers):
            asked[str(answer.id)].add(question)
            right.setdefault(str(answer.id), []).append(not answer.failed and said(answer.text) == truth.lower())
        names = tuple(f"{category}_{column}" for category in CATEGORIES for column in COLUMNS)
        rows = np.zeros((len(right), len(names)))
        for row, (picture, both) in zip(rows, right.items(), strict=True):
            if len(both) > 2:
                raise UserError(f"image {picture} of MME has {len(both)} answers, it can have two")
            if len(both) > len(asked[picture]):
                raise UserError(f"image {picture} of MME has two answers to {asked[picture].pop()!r}")
            first = names.index(f"{_category(picture)}_{COLUMNS[0]}")
            row[first : first + len(COLUMNS)] = len(both), sum(both), len(both) == 2, sum(both) == 2
        return Counts(list(right), names, rows)

    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """`perception` and `cognition`, the sums, and the score of each category that was asked (0 to 200).

        acc+ is 0 where no image has both answers.
        """
        scores = {}
        for category in CATEGORIES:
            questions, right, pictures, both = (total[f"{category}_{column}"] for column in COLUMNS)
            if questions:
                scores[category] = 100 * right / questions + 100 * both / (pictures or 1)
        sums = {
            "perception": sum((scores.get(category, 0.0) for category in PERCEPTION), 0.0),
            "cognition": sum((scores.get(category, 0.0) for category in COGNITION), 0.0),
        }
        return sums | scores

    def graded(self, total: Mapping[str, float]) -> int:
        """Number of questions of perception."""
        return int(sum(total[f"{category}_questions"] for category in PERCEPTION))

    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write a file for calculation.py of MME for each category that was asked; a failed answer is empty there.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.
        """
        lines = defaultdict(list)
        # A tab or line break in an answer would be one column or line more.
        blanks = str.maketrans("\t\r\n", "   ")
        for (category, file, question, truth), answer in self._with_truth(data, answers):
            text = "" if answer.failed else answer.text.translate(blanks)
            lines[category].append(f"{file}\t{question}\t{truth}\t{text}\n")
        paths = []
        for category in CATEGORIES:
            if category in lines:
                paths.append(out / f"{category}.txt")
                paths[-1].write_text("".join(lines[category]), encoding="utf-8")
        return paths

    def _with_truth(self, data: Path, answers: Sequence[Answer]) -> Iterator[tuple[tuple[str, str, str, str], Answer]]:
        """Each answer with its official category, file, question and right answer."""
        truths = {category: self._truths(data, category) for category in {_category(answer.id) for answer in answers}}
        for answer in answers:
            category = _category(answer.id)
            key = official_key(str(answer.id), answer.prompt, truths[category])
            if key not in truths[category]:
                raise UserError(f"the answers have {answer.id}, {answer.prompt!r}, which MME does not ask")
            yield (*key, truths[category][key]), answer

    def _truths(self, data: Path, category: str) -> dict[Key, str]:
        """Right answers of a category."""
        truths = self._found(data, category)
        if not truths:
            folder, source = data / str(self.files.images) / category, self.files.folders[""]
            raise UserError(f"{folder}/questions_answers_YN/*.txt are missing: download {source}")
        return truths

    def _found(self, data: Path, category: str) -> dict[Key, str]:
        """Right answers of a category, from the images' folder or from MME as it is published beside that."""
        source = self.files.folders[""]
        roots = [data / str(self.files.images), self.folder(data) / "MME_Benchmark_release_version"]
        truths: dict[Key, str] = {}
        for folder in (root / category for root in roots):
            inner = folder / "questions_answers_YN"
            for path in sorted((inner if inner.is_dir() else folder).glob("*.txt")):
                truths |= {(category, path.name, question): truth for question, truth in _lines(path, source)}
        return truths


def official_key(picture: str, prompt: str, known: Container[Key]) -> Key:
    """Key of a question in MME's own files: LLaVA's ending is replaced by theirs, after one space or else two.

    Args:
        picture: id of the question, which is the image's path below the benchmark's images.
        prompt: LLaVA's.
        known: keys that the files have.
    """
    category, name = picture.split("/")[0], picture.split("/")[-1].split(".")[0]
    question = prompt
    if SHORT_ANSWER.strip() in question:
        question = question.replace(SHORT_ANSWER.strip(), "").strip()
    if ENDING not in question:
        question = f"{question} {ENDING}"
        if (category, f"{name}.txt", question) not in known:
            question = question.replace(f" {ENDING}", f"  {ENDING}")
    return category, f"{name}.txt", question


def said(text: str) -> str:
    """Answer as the official script reads it: yes, no or other, by its first four characters."""
    start = text.lower()[:4]
    return next((word for word in ("yes", "no") if word in start), "other")


def _category(picture: object, where: str = "") -> str:
    category = str(picture).split("/")[0]
    if category not in CATEGORIES:
        raise UserError(f"{where}{picture} is of no category of MME; these are {', '.join(CATEGORIES)}")
    return category


def _lines(path: Path, source: str) -> Iterator[tuple[str, str]]:
    """Question and right answer, Yes or No, of each line."""
    for number, line in enumerate(lines_of(path.read_bytes(), str(path)), 1):
        if not line.strip():
            continue
        try:
            question, truth = line.decode("utf-8-sig").strip().split("\t")
        except ValueError:  # also what UnicodeDecodeError is
            question, truth = "", ""
        if truth.lower() not in ("yes", "no"):
            raise UserError(
                f"{path}, line {number} is not a question, a tab and Yes or No. Download it again: {source}"
            )
        yield question, truth
