"""Trains the demo model from nothing: data, tokenizer, tower, language model, instruction tuning, both V2 stages.

python train/demo/train_demo.py --work artifacts/demo-train --out assets/demo

Every step is one of the project's own commands and goes on where it stopped, so this one may be interrupted, too. Two
CPU cores need hours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.demo.card import write_card
from mobilevlm.train.demo.stages import STAGES
from mobilevlm.train.demo.version import generator

ROOT = Path(__file__).resolve().parents[2]
SIZE = "mobilevlm_v2_demo"
TOWER = "vision_tower"
Words = tuple[str | int | Path, ...]  # arguments of a command
TRIAL = 0.01  # below this scale a run only tries the commands: a few rows a step are enough


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="train_demo.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--work", default="artifacts/demo-train", metavar="DIR", help="data and runs (%(default)s)")
    self.add_argument("--out", default="artifacts/demo", metavar="DIR", help="where the model goes (%(default)s)")
    self.add_argument("--scale", type=float, default=1.0, help="part of the data and steps: 0.001 tries the path out")
    return self


def _train(args: argparse.Namespace) -> None:
    if not 0 < args.scale <= 1:
        raise UserError(f"--scale is {args.scale}; it has to be above 0 and at most 1")
    train_demo(user_path(args.work), user_path(args.out), args.scale)


def train_demo(work: Path, out: Path, scale: float = 1.0) -> None:
    """Trains the demo model in every stage and writes it with its loss curves, figures and card.

    Args:
        work: directory of the data and of the runs, a directory for each stage.
        out: directory of the finished model.
        scale: fraction of the published amount of data and of the steps, above 0 and at most 1.

    Raises:
        UserError: a command has failed, or `work` belongs to another version of the generator.
    """
    data, tokenizer = work / "data", work / "tokenizer"
    own_work(work)
    counts = {"images": 80_000, "texts": 60_000, "wide": 40_000}
    sizes = [f"--{name}={max(64, int(scale * count))}" for name, count in counts.items()]
    _run("demo/make_data.py", "--out", data, *sizes)
    if not (tokenizer / "special_tokens_map.json").is_file():  # written last
        texts = (data / "text.jsonl", data / "conversations.json")
        _run("train_tokenizer.py", "--data", *texts, "--vocab-size", 1024, "--out", tokenizer)
    short = [] if scale == 1 else [f"--max-steps={max(2, int(2000 * scale))}", "--logging-steps=1"]
    if scale < TRIAL:
        short += ["--global-batch-size=4", "--per-device-train-batch-size=4"]
    for name, script, words in _stages(work, data, tokenizer):
        _run(script, "--recipe", f"demo_{name}", *words, "--out", work / name, *short)
    ship(work / "wide", out)
    curves(work, out / "curves.png")
    count = 100 if scale == 1 else 1 if scale < TRIAL else 4
    _run("demo/judge.py", "--model", out, "--questions", count, "--out", out / "accuracy.json")
    write_card(work, out)


def _stages(work: Path, data: Path, tokenizer: Path) -> list[tuple[str, str, Words]]:
    """Name, command and own options of every stage, in order."""
    captions, talks, images = data / "captions.json", data / "conversations.json", ("--images", data)
    new: Words = ("--size", SIZE, "--tokenizer", tokenizer)
    alignment: Words = ("--model", work / "sft", "--vision-tower", work / "tower", "--data", captions)
    return [
        ("tower", "vision_pretrain.py", (*new, "--data", captions, *images)),
        ("language", "language_pretrain.py", (*new, "--data", data / "text.jsonl")),
        ("sft", "finetune.py", ("--model", work / "language", "--data", data / "text_conversations.json")),
        ("stage1", "finetune.py", (*alignment, *images)),
        ("stage2", "finetune.py", ("--model", work / "stage1", "--data", talks, *images)),
        ("lessons", "finetune.py", ("--model", work / "stage2", "--data", data / "lessons.json", *images)),
        ("finish", "finetune.py", ("--model", work / "lessons", "--data", talks, *images)),
        ("wide", "finetune.py", ("--model", work / "finish", "--data", data / "wide.json", *images)),
    ]


def own_work(work: Path) -> None:
    """Notes in a new work directory which version of the generator it belongs to.

    Raises:
        UserError: there are runs of another version, whose models know other images and questions.
    """
    note, here = work / "generator.txt", generator()
    made_by = note.read_text().strip() if note.is_file() else "one that left no generator.txt"
    if made_by != here and (note.is_file() or any((work / name).exists() for name in ("data", *STAGES))):
        raise UserError(
            f"{work} was made by another version of the generator ({made_by}, this is {here}): "
            f"`rm -r {work}` begins anew, --work DIR begins elsewhere"
        )
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(here + "\n")


def _run(script: str, *words: str | int | Path) -> None:
    """Runs one of the project's training commands, whose own message says what went wrong."""
    command = [sys.executable, str(ROOT / "train" / script), *map(str, words)]
    print("$", *(os.path.relpath(word) if word.startswith(str(ROOT)) else word for word in command[1:]), flush=True)
    status = subprocess.run(command).returncode
    if status:
        raise UserError(f"{script} ended with status {status}; mend what it says, then run this command again")


def ship(trained: Path, out: Path) -> None:
    """Writes a checkpoint as it is published: float16, and of the tower's own files only what is not in it already.

    Weights keep the eight bits that bfloat16 training gives them, and take a fifth less when packed.

    Args:
        trained: directory of the trained model.
        out: directory to write to.
    """
    import torch

    from mobilevlm import MobileVLM

    model = MobileVLM.from_pretrained(trained)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    model.half().save_pretrained(out)
    named = model.config.model_config.mm_vision_tower
    assert named is not None  # the stages before this one have put the tower in
    tower = out / named
    if tower.name != TOWER:
        shutil.rmtree(out / TOWER, ignore_errors=True)
        tower.rename(out / TOWER)
        config = json.loads((out / "config.json").read_text()) | {"mm_vision_tower": TOWER}
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for weights in ("model.safetensors", "pytorch_model.bin"):
        (out / TOWER / weights).unlink(missing_ok=True)


def curves(work: Path, path: Path) -> None:
    """Draws the loss of every stage.

    Args:
        work: directory of the runs, with a directory for each stage.
        path: the image file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(STAGES), figsize=(3.2 * len(STAGES), 2.6), constrained_layout=True)
    for axis, (name, title) in zip(axes, STAGES.items(), strict=True):
        log = json.loads((work / name / "trainer_state.json").read_text())["log_history"]
        points = [(entry["step"], entry["loss"]) for entry in log if "loss" in entry]
        axis.plot(*zip(*points, strict=True), linewidth=0.8)
        axis.set_title(title, fontsize=8)
        axis.set_yscale("log")
        axis.set_xlabel("step", fontsize=7)
        axis.tick_params(labelsize=7, which="both")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _train)


if __name__ == "__main__":
    main()
