"""MMBench, English development set: multiple choice, each question also with its options in other places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mobilevlm.errors import UserError
from mobilevlm.mmbench_table import LETTERS, Row, TableError, picture_of, read_table

from ..task import LETTER_ANSWER, Answer, ClosedQuestion, Counts, Question, Task
from .mmbench_workbook import write_workbook

MAX_NEW_TOKENS = 1024
COPIES_APART = 1_000_000  # the copies of question 7 are 1000007, 2000007, ...
WORKBOOK = "predictions.xlsx"
NO_CATEGORY = "no category"
_OF = " of "
# What may stand before and behind a letter, in the order in which the public scorer tries it.
_FORMS = (
    *(("", ""), ("", "."), ("", ","), ("", ":"), ("", ")"), ("", ")."), ("(", ")"), ("(", ").")),
    *((":", ""), (":", ","), (":", "."), (":", ")"), (":", ").")),
)


class MmBench(Task):
    """Accuracy by the circular rule: a question counts as right if all its copies, with other orders of options, are.

    The scorer in the original's benchmark_data.zip was not seen; this is the rule of MMBench's public one, without the
    ChatGPT that it asks about answers it cannot make out: those are wrong. If some copies of a question were not
    answered (a run with --limit), the others decide; such a score lies above that of the whole set.
    """

    name = "mmbench"
    title = "MMBench"
    headline = "accuracy"

    def questions(self, data: Path) -> list[Question]:
        """Questions of all rows, each with its own order of options; see `Task.questions`."""
        rows = self._rows(data)
        return [self._question(index, rows, data) for index in rows]

    def closed_questions(self, data: Path) -> list[ClosedQuestion]:
        """Those with two options or more, by the options' letters, copies included; see `Task.closed_questions`."""
        found, rows = [], self._rows(data)
        for question in self.questions(data):
            letters, truth = LETTERS[: len(options_of(rows[question.id]))], truth_of(rows[question.id])
            if len(letters) > 1 and truth in list(letters):
                group = str(question.id % COPIES_APART)
                found.append(ClosedQuestion(question, tuple(letters), letters.index(truth), group))
        return found

    def counts(self, data: Path, answers: Sequence[Answer]) -> Counts:
        """Grade the questions of which any copy was answered; see the class.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.

        Raises:
            UserError: as of `Task.counts`; also, two answers to one row, or a row whose right answer is no option.
        """
        rows = self._rows(data)
        right: dict[int, bool] = {}
        for index, answer in self._by_index(answers, rows).items():
            base = index % COPIES_APART
            right[base] = self._is_right(index, rows[index], answer) and right.get(base, True)
        category = {index % COPIES_APART: row["category"] or NO_CATEGORY for index, row in rows.items()}
        names = ["right", "asked"]
        names += [f"{what}{_OF}{name}" for name in sorted(set(category.values())) for what in ("right", "asked")]
        table = np.zeros((len(right), len(names)), np.float64)
        for number, (base, is_right) in enumerate(right.items()):
            own = names.index(f"right{_OF}{category[base]}")
            table[number, [0, own]] = is_right
            table[number, [1, own + 1]] = 1
        return Counts([str(base) for base in right], tuple(names), table)

    def metrics(self, total: Mapping[str, float]) -> dict[str, float]:
        """`accuracy`, and that of each category of which anything was asked, by its name; in percent."""
        scores = {"accuracy": 0.0}
        for column, asked in total.items():
            what, _, category = column.partition(_OF)
            if what == "asked" and asked:
                right = total[f"right{_OF}{category}" if category else "right"]
                scores[category or "accuracy"] = 100 * right / asked
        return scores

    def graded(self, total: Mapping[str, float]) -> int:
        """Number of questions, each with all its copies."""
        return int(total["asked"])

    def submission(self, data: Path, answers: Sequence[Answer], out: Path) -> list[Path]:
        """Write the workbook of the original's conversion, which MMBench's server also takes.

        Args:
            data: the directory that has `benchmark_data`.
            answers: to some or all of the questions.
            out: an existing directory.
        """
        rows = self._rows(data)
        predictions = {index: answer.text for index, answer in self._by_index(answers, rows).items()}
        write_workbook(rows, predictions, out / WORKBOOK)
        return [out / WORKBOOK]

    def _rows(self, data: Path) -> dict[int, Row]:
        path, source = data / self.files.annotations, self.files.source
        if not path.is_file():
            raise UserError(f"{path} is missing: download {source}")
        try:
            return read_table(path)
        except TableError as error:
            raise UserError(f"{path} {error}. Download it again: {source}") from None

    def _question(self, index: int, rows: Mapping[int, Row], data: Path) -> Question:
        row = rows[index]
        options = options_of(row)
        hint = content_of(row["hint"])
        lines = [] if hint is None else [hint]
        lines += [
            row["question"] or "",
            *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)),
        ]
        prompt = "\n".join(lines)
        try:
            image = picture_of(index, rows)
        except TableError as error:
            path, source = data / self.files.annotations, self.files.source
            raise UserError(f"{path}, index {index}: {error}. Download it again: {source}") from None
        extra = {"round_id": 0, "options": options, "option_char": list(LETTERS[: len(options)])}
        # The saved prompt lacks the last line, as the original's does.
        return Question(index, prompt + LETTER_ANSWER, image, prompt, max_new_tokens=MAX_NEW_TOKENS, extra=extra)

    def _by_index(self, answers: Sequence[Answer], rows: Mapping[int, Row]) -> dict[int, Answer]:
        found: dict[int, Answer] = {}
        for answer in answers:
            if answer.id not in rows:
                raise UserError(f"MMBench has no question {answer.id}: these answers are of something else")
            if answer.id in found:
                raise UserError(f"question {answer.id} of MMBench has two answers")
            found[answer.id] = answer
        return found

    def _is_right(self, index: int, row: Row, answer: Answer) -> bool:
        options = options_of(row)
        if truth_of(row) not in list(LETTERS[: len(options)]):
            raise UserError(
                f"question {index} of MMBench has {len(options)} options, and {row['answer']} is to be right. "
                f"Download the table again: {self.files.source}"
            )
        return not answer.failed and letter_in(answer.text, options) == truth_of(row)


def truth_of(row: Row) -> str | None:
    """Letter of the right option, in upper case."""
    return row["answer"] and row["answer"].strip().upper()


def options_of(row: Row) -> list[str]:
    """Options of a row: those before the first that is missing."""
    options: list[str] = []
    for letter in LETTERS:
        option = content_of(row[letter])
        if option is None:
            break
        options.append(option)
    return options


def content_of(cell: str | None) -> str | None:
    """Text of a cell; None where the original takes it for an empty one."""
    return None if cell is None or cell.lower() in ("nan", "none") else cell


def letter_in(text: str, options: Sequence[str]) -> str | None:
    """Letter that an answer chooses, by MMBench's rule.

    The forms of a letter are tried in turn: alone between blanks, then with a point, bracket, comma or colon. The first
    form that exactly one letter has decides; "A" alone among more than three words may be the article. Otherwise it is
    the only option whose text is in the answer, in any case.

    Args:
        text: the answer.
        options: texts of the options, A first.

    Returns:
        One of the options' letters; None if the rule finds none.
    """
    letters, words = LETTERS[: len(options)], text.split()
    for before, behind in _FORMS:
        found = [letter for letter in letters if f"{before}{letter}{behind}" in words]
        may_be_article = found == ["A"] and not before and not behind and len(words) > 3
        if len(found) == 1 and not may_be_article:
            return found[0]
    said = text.lower()
    named = [letter for letter, option in zip(letters, options, strict=True) if option.lower() in said]
    return named[0] if len(named) == 1 else None
