"""Writes questions about demo scenes as a file for `eval/questions.py`, from the scenes of the demo's GQA.

python train/demo/make_questions.py --out data/demo-questions
python train/demo/make_questions.py --out data/demo-questions --questions 50
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.demo.benchmarks.gqa import write_gqa
from mobilevlm.train.demo.benchmarks.rows import write_lines

FILE = "questions.jsonl"


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="make_questions.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--out", required=True, metavar="DIR", help=f"gets {FILE} and images/; has to be new or empty")
    self.add_argument("--questions", type=int, default=400, metavar="N", help="(default: %(default)s)")
    return self


def _make(args: argparse.Namespace) -> None:
    if args.questions < 1:
        raise UserError(f"--questions is {args.questions}; at least 1 is needed")
    out = user_path(args.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} holds something already: move or remove it first")
    make_questions(out, args.questions)
    print(out / FILE)


def make_questions(out: Path, count: int) -> None:
    """Writes the images and then, as the last file, the questions.

    Args:
        out: directory; it is made.
        count: number of questions, each about an image of its own.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        made = Path(place) / "made"
        write_gqa(made, count)
        answers = json.loads((made / "testdev_balanced_questions.json").read_text(encoding="utf-8"))
        asked = [
            json.loads(line)
            for line in (made / "llava_gqa_testdev_balanced.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        rows = [
            {
                "image": f"images/{row['image']}",
                "question": row["text"],
                "answer": answers[row["question_id"]]["answer"],
            }
            for row in asked
        ]
        for path in made.glob("*.json*"):
            path.unlink()
        write_lines(made / FILE, rows)
        if out.exists():
            out.rmdir()
        made.rename(out)


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _make)


if __name__ == "__main__":
    main()
