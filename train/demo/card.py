"""Model card of the demo: what the model is, how it was made and what it can do, with the figures of its runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .stages import STAGES
from .world.scenes import COLORS, SHAPES

TEXT = """# A small MobileVLM V2, trained from nothing

{millions:.1f} million parameters in the published layout: a CLIP tower (7 blocks of 256, 144 px, patches of 12), the
LDPv2 projector (144 tokens) and a MobileLLaMA (6 blocks of 256, 1024 pieces). It is there so that export, quantisation
and evaluation can be judged on real answers. It knows a world of drawings and nothing else.

- It was taught to say what is there and what is not, name colours ({colors}) and shapes ({shapes}), count, tell left
  from right and above from below, say where a thing is and which one is bigger, read a number or a short word, read
  simple bar and pie charts, describe the picture. How well it does is in the table below. It answers in a sentence, or
  in a word where the question ends with `Answer the question using a single word or phrase.`
- Its last stage is about wider pictures and words: flat and hollow shapes in rows, columns and rings, several numbers
  and words in one picture, named by their place, their colour or the shape beside them, the leftmost thing or the
  second from the top, and questions as other people word them.
- It cannot: anything else. A photograph gets an answer about shapes.

## Made by, in a clone of the project

```
python train/demo/train_demo.py --work artifacts/demo-train --out assets/demo
```

Everything comes from this command: pictures, captions and questions from `train/demo/` (seeds `0-N` to `3-N`, `wide-N`
and `wide-talks-N` for training, `heldout-N` and `heldout-wide-N` for the figures below), every stage from a recipe
`train/recipes/demo_*.json`, seed {seed}.

| stage | steps | batch | loss, mean of the last ten logged | samples/s | tokens/s | peak memory |
|---|---|---|---|---|---|---|
{stages}

{device}, PyTorch {torch}, bfloat16 autocast. MFU on a GPU, and the original's published hours: *not measured*
(`accelerate launch train/finetune.py --recipe v2_stage2 ...` prints tokens/s and memory there).

![loss of every stage](curves.png)

## Right answers on held-out scenes

{questions} questions of each kind about usual scenes and as many about wide ones, every second one with the
short-answer suffix, pictures of 192 to 640 px; without the picture all of them are asked as text alone. `ends` are
things named by their place alone, `two numbers` are asked about pictures with at least two. Measured by
`python train/demo/judge.py --model assets/demo --questions {questions}`.

| kind | right on usual scenes, % | on wide ones, % | without the picture, % |
|---|---|---|---|
{accuracy}
"""


def write_card(work: Path, out: Path) -> None:
    """Writes `README.md` into a model's directory.

    Args:
        work: directory of the runs, with a directory for each stage.
        out: directory of the model, with `accuracy.json` of `judge`.
    """
    figures = json.loads((out / "accuracy.json").read_text())
    runs = {name: _run(work / name) for name in STAGES}
    some = next(iter(runs.values()))
    rows = [
        f"| {STAGES[name]} (`{run['recipe']}`) | {run['steps']} | {run['batch']} | {run['final_loss']:.3f} "
        f"| {run['samples_per_s']:.1f} | {run['tokens_per_s']:.0f} | {run['peak_memory_mib']} MiB |"
        for name, run in runs.items()
    ]
    answers = [
        f"| {kind} | {figures['accuracy'].get(kind, '-')} | {figures['wide'][kind]} | {none} |"
        for kind, none in figures["without_picture"].items()
    ]
    values = {
        "millions": figures["parameters"] / 1e6,
        "colors": ", ".join(COLORS),
        "shapes": ", ".join(SHAPES),
        "seed": some["seed"],
        "stages": "\n".join(rows),
        "device": f"{os.cpu_count()} CPU cores" if some["device"] == "cpu" else some["device"],
        "torch": some["torch"],
        "questions": figures["questions_per_kind"],
        "accuracy": "\n".join(answers),
    }
    (out / "README.md").write_text(TEXT.format(**values))


def _run(directory: Path) -> dict[str, Any]:
    """Summary of a run, with values of its recipe."""
    recipe = json.loads((directory / "run.json").read_text())["recipe"]
    summary = json.loads((directory / "train_summary.json").read_text())
    log = json.loads((directory / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log if "loss" in entry][-10:]
    mean = {"final_loss": sum(losses) / len(losses)}
    return summary | mean | {"batch": recipe["global_batch_size"], "seed": recipe["seed"]}
