"""Tiny runs of finetune.py, in this process and in others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mobilevlm.errors import UserError
from tests.conftest import GOLDEN, ROOT

LLM, TOWER = GOLDEN / "lora_v1" / "base", GOLDEN / "lora_v1" / "openai_clip_tiny"
PICTURES = GOLDEN / "v1_ldpnet_112" / "train_batch"
FINETUNE = ROOT / "train" / "finetune.py"
WORDS = "red blue green box table big small round open door".split()
SMALL = ["--images", PICTURES, "--global-batch-size", 4, "--per-device-train-batch-size", 2, "--no-bf16"]
SMALL += ["--dataloader-num-workers", 0, "--save-steps", 4, "--parallel", "none"]


def row(number: int, image: str | None) -> dict:
    """A row of one question whose answer's length depends on the number."""
    answer = " ".join(WORDS[(number * 7 + word) % 10] for word in range(3 + number % 5))
    question = f"What is {WORDS[number % 10]}?"
    turns = [{"from": "human", "value": f"<image>\n{question}" if image else question}]
    turns.append({"from": "gpt", "value": answer})
    return {"id": f"r{number}", "conversations": turns} | ({"image": image} if image else {})


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> dict[str, Path]:
    """Files of rows: `mixed` (22, every third without a picture), `pictures`, `text`."""
    rows = {
        "mixed": [row(number, f"{number % 2}.png" if number % 3 else None) for number in range(22)],
        "pictures": [row(number, f"{number % 2}.png") for number in range(8)],
        "text": [row(number, None) for number in range(8)],
    }
    folder = tmp_path_factory.mktemp("rows")
    for name, content in rows.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return {name: folder / f"{name}.json" for name in rows}


def words(recipe: str, data: Path, out: Path, *options: object) -> list[str]:
    """The words of a tiny run."""
    return [str(word) for word in ("--recipe", recipe, "--data", data, "--out", out, *SMALL, *options)]


def train_here(*command: object) -> None:
    """Run finetune.py's work in this process, which has the heavy imports already."""
    from mobilevlm.train.finetune import finetune, parser

    finetune(parser().parse_args(words(*command)))


def refusal(*command: object) -> str:
    """What finetune.py refuses a command with."""
    with pytest.raises(UserError) as error:
        train_here(*command)
    return str(error.value)


def start(*command: object, launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start finetune.py in a process of its own, with one thread, so that sums are made in one order."""
    line = [sys.executable, *launcher, str(FINETUNE), *words(*command)]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HOME": str(Path.home())}
    return subprocess.Popen(
        line, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def losses(out: Path) -> list[float]:
    """The loss curve of a finished run."""
    return [e["loss"] for e in json.loads((out / "trainer_state.json").read_text())["log_history"] if "loss" in e]
