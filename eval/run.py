"""Evaluates a checkpoint or an engine bundle on the six benchmarks, with the scores of the original.

python eval/run.py --model mtgv/MobileVLM_V2-1.7B --tasks all
python eval/run.py --engine artifacts/v2-host --tasks gqa,pope --limit 500
python eval/run.py --model DIR --tasks gqa --num-shards 4 --shard 2      one of four processes, or machines

Answers are written as they come; the same command goes on where it was stopped. A run in which all questions are
answered is only scored.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mobilevlm.commands import command, run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.eval.answers import WHOLE, AnswerFile, merge, read_answers, shard_file, shard_of
from mobilevlm.eval.engine import Engine, ask, open_engine
from mobilevlm.eval.report import Score, claim, write_report
from mobilevlm.eval.task import Answer, Question, Task
from mobilevlm.eval.tasks import TASKS
from mobilevlm.packages import require
from mobilevlm.text.prompt import TEMPLATES

IMAGES_NAMED = 3
BENCHMARKS = "benchmark_data"


def parser() -> argparse.ArgumentParser:
    """Command line of the evaluation."""
    self = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = self.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="DIR_OR_HUB_ID", help="a checkpoint, run by PyTorch")
    which.add_argument("--engine", metavar="DIR", help=f"a bundle, made by `{command('export/build_engines.py')}`")
    self.add_argument("--base", metavar="DIR_OR_HUB_ID", help="for --model: the model a LoRA directory was trained on")
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    self.add_argument("--tasks", default="all", metavar="NAMES", help=f"all, or some of {','.join(TASKS)}")
    self.add_argument("--data", default="data", metavar="DIR", help="has benchmark_data/ in it (default: %(default)s)")
    self.add_argument("--out", metavar="DIR", help="where answers and scores go (default: artifacts/eval/NAME)")
    self.add_argument("--limit", type=int, metavar="N", help="only the first N questions of each benchmark")
    self.add_argument("--num-shards", type=int, default=1, metavar="K", help="divide the questions over K processes")
    self.add_argument("--shard", type=int, default=1, metavar="I", help="this process's part, from 1 to K")
    self.add_argument("--batch-size", type=int, default=1, metavar="B", help="questions at a time, for --model")
    self.add_argument("--conv-mode", choices=TEMPLATES, help="conversation template (default: the model's own)")
    self.add_argument("--dtype", choices=("fp32", "fp16", "bf16"), help="for --model; default fp32, on a GPU fp16")
    return self


def evaluate(args: argparse.Namespace) -> None:
    """Ask the questions that are not answered yet, then score all answers.

    Raises:
        UserError: options that contradict each other, files that are missing or damaged, a model without vision, one
            that cannot be loaded, or an `--out` of another run; also what `_report` raises.
    """
    require("evaluation", "tqdm")
    _check(args)
    tasks = _tasks(args.tasks)
    data = data_directory(args.data)
    asked = {name: _questions(task, data, args.limit) for name, task in tasks.items()}
    engine = open_engine(args.model, args.engine, args.conv_mode, args.dtype, args.on_cpu, args.base)
    name = Path(engine.identity["model" if args.model else "engine"]).name
    for task in tasks.values():
        _check_vision(engine, task, asked[task.name])
        _rehearse(task, data, asked[task.name])
        lacking = task.unasked(data, asked[task.name]) if args.limit is None else 0
        if lacking:
            said = f"{task.title} lacks {lacking} questions that have an answer: the score is of the others"
            print(said, file=sys.stderr)
    out = user_path(args.out or f"artifacts/eval/{name}")
    claim(out, engine, engine.conv_mode, data)
    finished = [
        _answer(engine, task, asked[task.name], out / task.name, name, args) for task in tasks.values()
    ]  # every benchmark, also after one whose other shards are missing
    if all(finished):
        _report(tasks.values(), data, out, engine)


def data_directory(name: str) -> Path:
    """Directory that has `benchmark_data`; that one itself may be named as well."""
    path = user_path(name)
    return path.resolve().parent if path.name == BENCHMARKS and not (path / BENCHMARKS).is_dir() else path


def _check(args: argparse.Namespace) -> None:
    """Raises UserError for options that are out of range or contradict each other."""
    for option in ("limit", "num_shards", "batch_size"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} is {value}; at least 1 is needed")
    if not 1 <= args.shard <= args.num_shards:
        raise UserError(f"--shard is {args.shard}; with --num-shards {args.num_shards} it goes from 1 to that")
    for option, default in (("batch_size", 1), ("dtype", None), ("base", None)):
        if args.engine and getattr(args, option) != default:
            raise UserError(f"--{option.replace('_', '-')} is for --model; a bundle has its own")
    if args.model and args.on_cpu:
        raise UserError("--on-cpu is for --engine; --model runs on a GPU where there is one, else on the CPU")


def _tasks(names: str) -> dict[str, Task]:
    """Benchmarks that `--tasks` names."""
    chosen = list(TASKS) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in TASKS]
    if unknown or not chosen:
        raise UserError(f"--tasks {names}: there is no {', '.join(unknown) or 'name'}; use all or {','.join(TASKS)}")
    return {name: TASKS[name] for name in chosen}


def _questions(task: Task, data: Path, limit: int | None) -> Sequence[Question]:
    """Questions to ask. Those whose image is missing count as wrong; without any image there is nothing to ask.

    Raises:
        UserError: a file that scoring needs or all images are missing, or `Task.questions` cannot read its files.
    """
    for file, source in ((task.files.annotations, task.files.source), *task.files.also.items()):
        if not (data / file).is_file():
            raise UserError(f"{data / file} is missing: download {source}")
    questions = task.questions(data)[:limit]
    named = list(dict.fromkeys(question.image for question in questions if isinstance(question.image, Path)))
    missing = [path for path in named if not path.is_file()]
    if missing:
        where = f"images of {task.title} are missing, e.g. {', '.join(map(str, missing[:IMAGES_NAMED]))}"
        source = f"they come from {task.files.folders['']}"
        if len(missing) == len(named):
            raise UserError(f"all {len(named)} {where}: {source}")
        print(f"{len(missing)} of {len(named)} {where}; they count as wrong ({source})", file=sys.stderr)
    return questions


def _check_vision(engine: Engine, task: Task, questions: Sequence[Question]) -> None:
    """Raises UserError for questions with images to a model without vision."""
    if engine.config.vision is None and any(question.image is not None for question in questions):
        raise UserError(f"{task.title} asks about images, and this is a text-only model: give one with vision")


def _rehearse(task: Task, data: Path, questions: Sequence[Question]) -> None:
    """Score empty answers, so that what stands in the way of scoring does so before hours of asking.

    Raises:
        UserError: see `Task.counts` and `Task.submission`.
    """
    silent = [Answer(question.id, question.saved_prompt, "", extra=question.extra) for question in questions]
    with TemporaryDirectory() as out:
        try:
            task.counts(data, silent)
            task.submission(data, silent, Path(out))
        except UserError as error:
            raise UserError(f"answers to {task.title} could not be scored: {error}") from None


def _answer(
    engine: Engine, task: Task, questions: Sequence[Question], directory: Path, name: str, args: argparse.Namespace
) -> bool:
    """Ask this shard's questions; return whether those of all shards are answered now."""
    from tqdm import tqdm

    part = shard_of(questions, args.shard, args.num_shards)
    path = shard_file(directory, args.shard, args.num_shards)
    with (
        AnswerFile(path, part, name, args.batch_size) as file,
        tqdm(total=len(part), initial=file.done, desc=task.title, unit="q", disable=None) as bar,
    ):
        if file.done < len(part):
            engine.open()
        while file.done < len(part):
            batch = part[file.done : file.done + args.batch_size]
            for question, (text, problem) in zip(batch, ask(engine, batch), strict=True):
                if problem:
                    bar.write(f"{task.title}, question {question.id} counts as wrong: {problem}", file=sys.stderr)
                file.append(question, text, problem)
                bar.update()
    if args.num_shards == 1:
        return True
    missing = merge(directory, questions, args.num_shards)
    if missing:
        print(f"{task.title}: shard {args.shard} is done; to come: {', '.join(map(str, missing))}")
    return not missing


def _report(tasks: Iterable[Task], data: Path, out: Path, engine: Engine) -> None:
    """Score every benchmark that can be scored, and write and print the table.

    Raises:
        UserError: one could not be scored; raised after the table.
    """
    scores, problems = [], []
    for task in tasks:
        try:
            scores.append(_score(task, data, out / task.name))
        except UserError as error:
            problems.append(f"{task.title} has no score: {error}")
    print(write_report(out, scores, engine.config))
    if problems:
        raise UserError("; ".join(problems))


def _score(task: Task, data: Path, directory: Path) -> Score:
    """Score one benchmark and write its submission."""
    answers = list(read_answers(directory / WHOLE))
    total = task.counts(data, answers).total()
    failed = sum(answer.failed for answer in answers)
    task.submission(data, answers, directory)
    n = task.graded(total)
    return Score(task.name, task.title, task.headline, n, len(answers), failed, task.metrics(total))


def main() -> None:
    """Run the command."""
    run_command(parser(), evaluate)


if __name__ == "__main__":
    main()
