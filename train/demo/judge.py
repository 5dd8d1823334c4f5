"""How often a model answers right on held-out scenes, by kind of question, with the picture and without it.

python train/demo/judge.py --model assets/demo
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.demo.draw import draw_scene
from mobilevlm.train.demo.facts import NUMBER_WORDS
from mobilevlm.train.demo.phrases import SHORT_ANSWER
from mobilevlm.train.demo.questions import Question, questions
from mobilevlm.train.demo.scenes import COLORS, SHAPES, sample_scene

KINDS = ("existence", "color", "shape", "count", "relation", "place", "size", "number", "word", "chart", "compare")
BATCH = 32
EDGES = (192, 224, 256, 336, 448, 640)  # people's pictures are not of the tower's size


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="judge.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--model", required=True, metavar="DIR", help="checkpoint to judge")
    self.add_argument("--questions", type=int, default=200, metavar="N", help="per kind (default: %(default)s)")
    self.add_argument("--out", metavar="FILE", help="write the figures as JSON, too")
    return self


def _judge(args: argparse.Namespace) -> None:
    if args.questions < 1:
        raise UserError(f"--questions is {args.questions}; at least 1 is needed")
    from mobilevlm import MobileVLM

    model = MobileVLM.from_pretrained(args.model)
    asked = heldout(args.questions)
    parameters = sum(weight.numel() for weight in model.parameters())
    figures: dict[str, Any] = {"questions_per_kind": args.questions, "parameters": parameters}
    for name, blind in (("accuracy", False), ("without_picture", True)):
        answers = predict(model, [(None if blind else picture, text) for picture, text, _ in asked])
        right = defaultdict(list)
        for (_, text, question), answer in zip(asked, answers, strict=True):
            right[question.kind].append(is_right(question, answer))
            right["with the suffix" if SHORT_ANSWER in text else "in a sentence"].append(is_right(question, answer))
        figures[name] = {kind: round(100 * sum(marks) / len(marks), 1) for kind, marks in sorted(right.items())}
    print(f"{'kind':16} {'picture':>8} {'none':>8}   ({args.questions} questions each, % right)")
    for kind, value in figures["accuracy"].items():
        print(f"{kind:16} {value:8.1f} {figures['without_picture'][kind]:8.1f}")
    if args.out:
        user_path(args.out).write_text(json.dumps(figures, indent=2) + "\n")


def heldout(per_kind: int, kinds: Sequence[str] = KINDS) -> list[tuple[Any, str, Question]]:
    """Picture, question as asked, question: from seeds no training file uses; every second one with the suffix."""
    found: dict[str, list[tuple[Any, str, Question]]] = {kind: [] for kind in kinds}
    number = 0
    while any(len(rows) < per_kind for rows in found.values()):
        rng = random.Random(f"heldout-{number}")
        number += 1
        scene = sample_scene(rng)
        wanted = {q.kind: q for q in questions(scene, rng) if len(found.get(q.kind, range(per_kind))) < per_kind}
        picture = draw_scene(scene, rng, rng.choice(EDGES)) if wanted else None
        for kind, question in wanted.items():
            if kind == "count" and question.short.isdigit() and not 1 <= int(question.short) <= 5:
                continue
            suffix = f"\n{SHORT_ANSWER}" if len(found[kind]) % 2 else ""
            found[kind].append((picture, question.text + suffix, question))
    return [row for rows in found.values() for row in rows]


def is_right(question: Question, answer: str) -> bool:
    """Whether an answer says the right thing: the first yes, number or side counts, and one colour or shape alone."""
    said, wanted = answer.lower().replace("grey", "gray"), question.short.lower()
    words = re.findall(r"[a-z0-9]+", said)
    if wanted in ("yes", "no"):
        return words[:1] == [wanted]
    if question.kind == "count":
        numbers = [
            NUMBER_WORDS.index(w) if w in NUMBER_WORDS else int(w) for w in words if w in NUMBER_WORDS or w.isdigit()
        ]
        return numbers[:1] == [int(wanted)]
    if question.kind == "relation" and wanted in ("left", "right", "above", "below"):
        return [word for word in words if word in ("left", "right", "above", "below")][:1] == [wanted]
    if question.kind == "place":
        order = re.findall("top|bottom|left|right|center", said)
        return order == wanted.split()
    names = {"color": COLORS, "shape": SHAPES}.get(question.kind)
    if names:
        return {word for word in words if word in names} == {wanted}
    return re.search(rf"\b{re.escape(wanted)}\b", said) is not None


def predict(model: Any, asked: Iterable[tuple[Any, str]], max_new_tokens: int = 24) -> list[str]:
    """Greedy answers to single questions in the v1 template, several at a time.

    Args:
        model: a `MobileVLM`.
        asked: a PIL picture or None, and the question.
        max_new_tokens: the longest answer.
    """
    from tqdm import tqdm

    from mobilevlm.batch import answer_batch
    from mobilevlm.image import ImageSpec, preprocess

    spec, answers, rows = ImageSpec.of(model.config.model_config), [], list(asked)
    for start in tqdm(range(0, len(rows), BATCH), desc="questions", unit=f"x{BATCH}"):
        batch = [
            (text, None if picture is None else preprocess(picture.convert("RGB"), spec))
            for picture, text in rows[start : start + BATCH]
        ]
        answers += answer_batch(model, batch, max_new_tokens=max_new_tokens)
    return answers


def main() -> None:
    """The command."""
    run_command(parser(), _judge)


if __name__ == "__main__":
    main()
