"""What a bundle answers to twenty questions about the shipped images, chosen greedily, as JSON: a step of `smoke.py`.

    python runtime/smoke_answers.py DIR
    python runtime/smoke_answers.py DIR --on-cpu

On a GPU they are answered twice: from the few largest logits that it returns, and from all of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from collections.abc import Sequence

from mobilevlm.commands import command, run_command
from mobilevlm.errors import UserError
from mobilevlm.runtime.session import Session
from mobilevlm.runtime.top_logits import TopLogits

QUESTIONS, LONGEST = 20, 32  # questions, and tokens of an answer
IMAGES = Path(__file__).resolve().parents[1] / "export" / "calibration_data"
FEW, ALL = "few logits", "all logits"  # the ways


def questions() -> list[tuple[Path, str]]:
    """Returns images, and the first question that is asked about each."""
    rows = json.loads((IMAGES / "conversations.json").read_text(encoding="utf-8"))
    shown = [row for row in rows if "image" in row][:QUESTIONS]
    return [(IMAGES / row["image"], row["conversations"][0]["value"].replace("<image>", "").strip()) for row in shown]


def answers(session: Session) -> list[dict[str, object]]:
    """Returns question, text and tokens of each answer."""
    found: list[dict[str, object]] = []
    for image, question in questions():
        reply = session.chat(question, image, max_new_tokens=LONGEST)
        text = "".join(reply)
        found.append({"question": question, "text": text, "tokens": reply.tokens})
    return found


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="smoke_answers.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("engine", metavar="DIR", help=f"the bundle, made by {command('export/build_engines.py')}")
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    return self


def _answer(options: argparse.Namespace) -> None:
    with Session(options.engine, on_cpu=options.on_cpu, check=False) as session:
        if not session.bundle.has_vision:
            raise UserError(f"{options.engine} takes no images, and all these questions are about one")
        found, decoder = {}, session.decoder
        if isinstance(decoder.decode(decoder.embed([0]), 0), TopLogits):
            found[FEW] = answers(session)
            decoder.full_logits = True
        found[ALL] = answers(session)
    print(json.dumps(found))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; the arguments are those of the process when None."""
    run_command(parser(), _answer, arguments)


if __name__ == "__main__":
    main()
