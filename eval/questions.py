"""Asks bundles the questions of a file and compares their accuracy.

python eval/questions.py --questions questions.jsonl
python eval/questions.py --questions questions.jsonl --engine artifacts/demo-fp32 --engine artifacts/demo-int4

A line of the file is {"image": "a.jpg", "question": "Is the door open?", "answer": "yes"}. The image's path is taken
from the file's folder, or left out, and "answer" may be a list of right ones. An answer is right if it is one of them;
case, spaces and dots at the end do not count. The first bundle is the reference. For each: its accuracy, the difference
from the reference's, the interval that holds 95 % of paired bootstrap samples of the questions, and the share of
answers that are the reference's. The last line is the same as JSON. Without --engine, the file is only checked.

Answers are written as they come; the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mobilevlm.commands import command, run_command
from mobilevlm.engines.tables import aligned_table
from mobilevlm.errors import UserError, user_path
from mobilevlm.eval.answers import AnswerFile, read_answers
from mobilevlm.eval.bootstrap import interval
from mobilevlm.eval.difference import Difference
from mobilevlm.eval.engine import BundleEngine, ask
from mobilevlm.eval.question_file import OwnQuestion, accuracy, digest, grade, read_question_file
from mobilevlm.eval.task import Answer
from mobilevlm.packages import require
from mobilevlm.text.prompt import TEMPLATES

DIGITS = 12  # of a digest, in a file's name
COLUMNS = ("bundle", "n", "accuracy %", "difference", "95 % interval", "same answer %")


def parser() -> argparse.ArgumentParser:
    """Command line of the comparison."""
    self = argparse.ArgumentParser(
        prog="questions.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = command("export/build_engines.py")
    self.add_argument("--questions", required=True, metavar="FILE", help="JSON lines, see above")
    self.add_argument(
        "--engine", action="append", default=[], metavar="DIR", help=f"a bundle, made by `{build}`; give it again"
    )
    self.add_argument("--out", default="artifacts/questions", metavar="DIR", help="for answers (default: %(default)s)")
    self.add_argument("--limit", type=int, metavar="N", help="only the first N questions")
    self.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="longest answer (default: 128)")
    self.add_argument("--conv-mode", choices=TEMPLATES, help="conversation template (default: the model's own)")
    self.add_argument("--on-cpu", action="store_true", help="run bundles for another device on this CPU: slow")
    return self


def compare(args: argparse.Namespace) -> None:
    """Checks the file, asks every bundle and prints the table and the line of JSON.

    Raises:
        UserError: options out of range, a file that is no file of questions, or a bundle that cannot be run here.
    """
    for option in ("limit", "max_new_tokens"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} is {value}; at least 1 is needed")
    if len(set(args.engine)) < len(args.engine):
        raise UserError("--engine names a bundle twice: each is asked once")
    questions = read_question_file(user_path(args.questions), args.limit, args.max_new_tokens)
    if not args.engine:
        print(f"{len(questions)} questions, as they should be")
        return
    require("evaluation", "tqdm")
    answers = {directory: _answers(directory, questions, args) for directory in args.engine}
    found = differences(questions, answers)
    print(aligned_table(COLUMNS, [_row(one) for one in found]), end="\n\n")
    print(json.dumps([asdict(one) for one in found]))


def differences(questions: Sequence[OwnQuestion], answers: dict[str, list[Answer]]) -> list[Difference]:
    """Compares every bundle with the first one.

    Args:
        questions: all of them.
        answers: of each bundle, in the questions' order.
    """
    counts = {name: grade(questions, own) for name, own in answers.items()}
    first, reference = next(iter(answers.values())), next(iter(counts.values()))
    found = []
    for name, own in answers.items():
        score = accuracy(counts[name].total())
        low, high = (0.0, 0.0) if own is first else interval(reference, counts[name], accuracy)
        same = sum(a.text == b.text and a.failed == b.failed for a, b in zip(first, own, strict=True)) / len(own)
        change = score - accuracy(reference.total())
        found.append(Difference("questions", "accuracy", name, len(own), score, same, change, low, high))
    return found


def _answers(directory: str, questions: Sequence[OwnQuestion], args: argparse.Namespace) -> list[Answer]:
    """Asks a bundle what it was not asked before: answers are kept by bundle, template, texts and images."""
    from tqdm import tqdm

    engine = BundleEngine(directory, args.conv_mode, args.on_cpu)
    if engine.config.vision is None and any(one.question.image for one in questions):
        raise UserError(f"--questions has images, and {directory} is of a text-only model")
    identity = {key: value for key, value in engine.identity.items() if key != "engine"}  # a bundle may move
    known = json.dumps([identity, engine.conv_mode, digest(questions)])
    name = Path(engine.identity["engine"]).name
    path = user_path(args.out) / f"{name}-{hashlib.sha256(known.encode()).hexdigest()[:DIGITS]}.jsonl"
    asked = [one.question for one in questions]
    with (
        AnswerFile(path, asked, name) as file,
        tqdm(total=len(asked), initial=file.done, desc=name, disable=None) as bar,
    ):
        try:
            for question in asked[file.done :]:
                ((text, problem),) = ask(engine, [question])
                if problem:
                    bar.write(f"line {question.id} counts as wrong: {problem}", file=sys.stderr)
                file.append(question, text, problem)
                bar.update()
        finally:
            engine.close()
    return list(read_answers(path))


def _row(one: Difference) -> list[str]:
    figures = [f"{one.score:.1f}", f"{one.difference:+.1f}", f"{one.low:+.1f} to {one.high:+.1f}"]
    return [one.run, str(one.n), *figures, f"{100 * one.agreement:.1f}"]


def main() -> None:
    """Run the command."""
    run_command(parser(), compare)


if __name__ == "__main__":
    main()
