"""Measures a model's share of right answers on held-out scenes, by kind: usual ones, wide ones, without the image.

python train/demo/judge.py --model assets/demo
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.demo.questions.question import Question
from mobilevlm.train.demo.questions.usual import questions
from mobilevlm.train.demo.questions.wide import wide_questions
from mobilevlm.train.demo.wordings.phrases import SHORT_ANSWER
from mobilevlm.train.demo.world.draw import draw_scene
from mobilevlm.train.demo.world.facts import NUMBER_WORDS
from mobilevlm.train.demo.world.scenes import COLORS, SHAPES, Scene, sample_scene
from mobilevlm.train.demo.world.wide_scenes import wide_scene
from mobilevlm.train.demo.world.writings import writings

KINDS = ("existence", "color", "shape", "count", "relation", "place", "size", "number", "word", "chart", "compare")
TWO_NUMBERS = "two numbers"  # questions for one or both of them; `number` asks for the only one in an image
KINDS_WIDE = (*KINDS, "ends", TWO_NUMBERS)
Asked = tuple[Any, str, Question]  # the image, the question as asked, the question
BATCH = 32
EDGES = (192, 224, 256, 336, 448, 640)  # in pixels; users' images do not have the tower's size


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="judge.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--model", required=True, metavar="DIR", help="checkpoint to judge")
    self.add_argument(
        "--questions", type=int, default=200, metavar="N", help="per kind, usual and wide each (default: %(default)s)"
    )
    self.add_argument("--out", metavar="FILE", help="write the figures as JSON, too")
    return self


def _judge(args: argparse.Namespace) -> None:
    if args.questions < 1:
        raise UserError(f"--questions is {args.questions}; at least 1 is needed")
    from mobilevlm import MobileVLM

    model = MobileVLM.from_pretrained(args.model)
    usual, wide = heldout(args.questions), heldout_wide(args.questions)
    parameters = sum(weight.numel() for weight in model.parameters())
    figures: dict[str, Any] = {"questions_per_kind": args.questions, "parameters": parameters}
    blind: list[Asked] = [(None, text, question) for _, text, question in usual + wide]
    for name, asked in (("accuracy", usual), ("wide", wide), ("without_picture", blind)):
        figures[name] = _shares(asked, predict(model, [(image, text) for image, text, _ in asked]))
    print(f"{'kind':16} {'usual':>8} {'wide':>8} {'none':>8}   ({args.questions} usual, as many wide, % right)")
    for kind, none in figures["without_picture"].items():
        print(f"{kind:16} {figures['accuracy'].get(kind, '-'):>8} {figures['wide'][kind]:>8} {none:>8}")
    if args.out:
        user_path(args.out).write_text(json.dumps(figures, indent=2) + "\n")


def _shares(asked: list[Asked], answers: list[str]) -> dict[str, float]:
    """Right answers of each kind and of each way of asking, in percent."""
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for (_, text, question), answer in zip(asked, answers, strict=True):
        for row in (question.kind, "with the suffix" if SHORT_ANSWER in text else "in a sentence"):
            right[row].append(is_right(question, answer))
    return {kind: round(100 * sum(marks) / len(marks), 1) for kind, marks in sorted(right.items())}


def heldout(per_kind: int, kinds: Sequence[str] = KINDS) -> list[Asked]:
    """Returns image, question as asked and question, from seeds of no training file; every second with the suffix.

    Args:
        per_kind: number of questions of each kind.
        kinds: the kinds of question.
    """
    return _heldout(per_kind, kinds, "heldout", sample_scene, questions)


def heldout_wide(per_kind: int, kinds: Sequence[str] = KINDS_WIDE) -> list[Asked]:
    """Returns the same as `heldout` for wide scenes, in the second wordings, too.

    Args:
        per_kind: number of questions of each kind.
        kinds: the kinds of question.
    """
    return _heldout(per_kind, kinds, "heldout-wide", wide_scene, _of_wide_kinds)


def _of_wide_kinds(scene: Scene, rng: random.Random) -> list[Question]:
    """Wide questions of a scene; those about one of several numbers are a kind of their own."""
    several = sum(written.kind == "number" for written in writings(scene)) > 1
    found = wide_questions(scene, rng)
    return [replace(q, kind=TWO_NUMBERS) if several and q.kind == "number" else q for q in found]


def _heldout(
    per_kind: int,
    kinds: Sequence[str],
    seeds: str,
    sample: Callable[[random.Random], Scene],
    ask_about: Callable[[Scene, random.Random], list[Question]],
) -> list[Asked]:
    found: dict[str, list[Asked]] = {kind: [] for kind in kinds}
    number = 0
    while any(len(rows) < per_kind for rows in found.values()):
        rng = random.Random(f"{seeds}-{number}")
        number += 1
        scene = sample(rng)
        wanted = {q.kind: q for q in ask_about(scene, rng) if len(found.get(q.kind, range(per_kind))) < per_kind}
        image = draw_scene(scene, rng, rng.choice(EDGES)) if wanted else None
        for kind, question in wanted.items():
            if kind == "count" and question.short.isdigit() and not 1 <= int(question.short) <= 5:
                continue
            suffix = f"\n{SHORT_ANSWER}" if len(found[kind]) % 2 else ""
            found[kind].append((image, question.text + suffix, question))
    return [row for rows in found.values() for row in rows]


def is_right(question: Question, answer: str) -> bool:
    """Whether an answer says the right thing.

    The first yes, number or side counts, one colour or shape alone, and of several texts all in their order.

    Args:
        question: the question with its right answer.
        answer: the model's answer.
    """
    said, wanted = answer.lower().replace("grey", "gray"), question.short.lower()
    words = re.findall(r"[a-z0-9]+", said)
    if wanted in ("yes", "no") and question.short in ("Yes", "No"):
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
    if question.kind in ("number", "word", TWO_NUMBERS):
        return _reads(said, wanted)
    if question.kind == "ends" and " " in wanted:
        # Of "a red star is between the blue circle and the pink oval" the first is the answer.
        named = re.findall(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b", said)
        return named[:1] == [tuple(wanted.split())] and (len(named) == 1 or "between" in words)
    names = {"color": (COLORS,), "shape": (SHAPES,), "ends": (COLORS, SHAPES)}.get(question.kind, ())
    if names:
        # "The word RED is blue" names the word that it is about.
        about = {question.about.lower()} - {wanted}
        return {word for word in words if any(word in some for some in names)} - about == {wanted}
    return re.search(rf"\b{re.escape(wanted)}\b", said) is not None


def _reads(said: str, wanted: str) -> bool:
    """Whether an answer says a text; of several texts all of them, in order, and no other number."""
    # "The red word", "the word on the left": RED and LEFT are texts of the demo, too.
    said = re.sub(rf"\b(?:{'|'.join((*COLORS, 'left', 'right'))}) (?=number|word|text)", "", said)
    said = re.sub(r"\b(?:on|at|to) the (?:left|right)\b", "", said)
    parts = re.findall(r"[a-z0-9]+", wanted.replace(" and ", " "))
    if len(parts) == 1:
        return re.search(rf"\b{re.escape(wanted)}\b", said) is not None
    return [word for word in re.findall(r"[a-z0-9]+", said) if word in parts or word.isdigit()] == parts


def predict(model: Any, asked: Iterable[tuple[Any, str]], max_new_tokens: int = 24) -> list[str]:
    """Returns greedy answers to single questions in the v1 template, computed in batches.

    Args:
        model: a `MobileVLM`.
        asked: a PIL image or None, and the question.
        max_new_tokens: longest answer, in tokens.
    """
    from tqdm import tqdm

    from mobilevlm.image import ImageSpec, preprocess
    from mobilevlm.model.batch import answer_batch

    spec, answers, rows = ImageSpec.of(model.config.model_config), [], list(asked)
    for start in tqdm(range(0, len(rows), BATCH), desc="questions", unit=f"x{BATCH}"):
        batch = [
            (text, None if image is None else preprocess(image.convert("RGB"), spec))
            for image, text in rows[start : start + BATCH]
        ]
        answers += answer_batch(model, batch, max_new_tokens=max_new_tokens)
    return answers


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _judge)


if __name__ == "__main__":
    main()
