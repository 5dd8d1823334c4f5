"""Mutated checkpoints: opened as every command opens them, one ends in a model or in a UserError, soon and small.

python -m tests.faults.checkpoints --seed 1 --count 1000

A case is a small checkpoint (whole, in shards, as a pickle, or a LoRA on a base) in which one to three places are
changed: values of a JSON file, its bytes, a header's fields, a file's length, a link, a pickle's opcodes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mobilevlm.checkpoint.checkpoint import check_tensors, open_checkpoint
from mobilevlm.errors import UserError
from mobilevlm.model.model import expected_shapes
from tests.faults.patience import patient

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SECONDS, GROWTH = 20, 700 * 2**20
ODD: tuple[Any, ...] = (
    *(
        0,
        -1,
        1,
        2**20,
        2**31,
        10**12,
        10**400,
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        True,
        None,
        "",
        "64",
        "x" * 5000,
    ),
    *([], [[[]]], {}, {"a": [1]}, "../../etc", "/etc/passwd", "a\0b", "\ud800", "openai/nothing", [1, 2, 3]),
)


def make(kind: str, directory: Path) -> tuple[Path, Path | None]:
    """Writes an unchanged checkpoint.

    Args:
        kind: whole, shards, pickle or lora.
        directory: receives it; not there yet.

    Returns:
        The directory to open, and a LoRA's base.
    """
    if kind == "lora":
        shutil.copytree(GOLDEN / "lora_v1", directory, ignore=shutil.ignore_patterns("*.npz", "merged"))
        return directory / "lora", directory / "base"
    shutil.copytree(GOLDEN / "v2_ldpnetv2_336", directory, ignore=shutil.ignore_patterns("*.npz", "train_batch"))
    model = directory / ("ckpt_bin" if kind == "pickle" else "ckpt_safetensors")
    if kind == "shards":
        tensors = load_file(model / "model.safetensors")
        names = sorted(tensors)
        parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        for file, held in parts.items():
            save_file({name: tensors[name] for name in held}, model / file)
        weight_map = {name: file for file, held in parts.items() for name in held}
        (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        (model / "model.safetensors").unlink()
    return model, None


def mutate(directory: Path, drawn: random.Random) -> str:
    """Changes one place of a checkpoint; returns what was done."""
    path = drawn.choice(sorted(path for path in directory.rglob("*") if path.is_file()))
    ways = [cut, flip, replace_file] + [change_json] * 8 * (path.suffix == ".json")
    ways += [change_header] * 6 * (path.suffix == ".safetensors")
    way = drawn.choice(ways)
    return f"{way.__name__} {path.relative_to(directory)}: {way(path, drawn)}"


def cut(path: Path, drawn: random.Random) -> str:
    """Truncates a file, or adds to it."""
    content = path.read_bytes()
    size = drawn.choice([0, 1, 8, len(content) // 2, max(len(content) - 1, 0), len(content) + 100])
    path.write_bytes(content[:size] + b"\0" * max(size - len(content), 0))
    return f"{len(content)} to {size} bytes"


def flip(path: Path, drawn: random.Random) -> str:
    """Changes single bytes, mostly near the front where headers and opcodes are."""
    content = bytearray(path.read_bytes())
    for _ in range(drawn.choice([1, 3, 30])):
        if content:
            content[drawn.randrange(min(len(content), drawn.choice([16, 400, 20000, len(content)])))] = drawn.randrange(
                256
            )
    path.write_bytes(content)
    return "bytes"


def replace_file(path: Path, drawn: random.Random) -> str:
    """Puts something else in a file's place."""
    what = drawn.choice(["lfs", "page", "directory", "dangling", "itself", "deep", "utf16", "nothing"])
    content = path.read_bytes()
    path.unlink()
    if what == "directory":
        path.mkdir()
    elif what in ("dangling", "itself"):
        path.symlink_to(path if what == "itself" else path.parent / "gone")
    elif what != "nothing":
        texts = {"lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "page": b"<!DOCTYPE html><p>"}
        texts |= {"deep": b"[" * 100_000, "utf16": content.decode("latin-1").encode("utf-16")}
        path.write_bytes(texts[what])
    return what


def change_json(path: Path, drawn: random.Random) -> str:
    """Replaces, removes or adds a value somewhere in a JSON file."""
    try:
        value = json.loads(path.read_text())
    except (ValueError, RecursionError):
        return "it is none any more"
    at, odd = value, drawn.choice(ODD)
    while isinstance(at, dict) and at:
        key = drawn.choice(sorted(at))
        if not isinstance(at[key], dict) or not at[key] or drawn.random() < 0.3:
            if drawn.random() < 0.15:
                del at[key]
            elif drawn.random() < 0.1:
                at[str(odd)[:300]] = at[key]
            else:
                at[key] = odd
            path.write_text(json.dumps(value))
            return f"{key} {str(odd)[:40]!r}"
        at = at[key]
    path.write_text(json.dumps(odd))
    return f"all of it {str(odd)[:40]!r}"


def change_header(path: Path, drawn: random.Random) -> str:
    """Changes a field of a safetensors header, whose length is made to fit, or not."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        name = drawn.choice(sorted(header.keys() - {"__metadata__"}))
        field = drawn.choice(["dtype", "shape", "data_offsets"])
        numbers = [0, 1, -1, 7, 64, 2**31, 2**62, 2**64, 10**30, 1.5, None]
        odd = drawn.choice(
            [*ODD, "F32", "F8_E4M3", "I8", "X", *([drawn.choice(numbers) for _ in range(2)] for _ in range(20))]
        )
        header[name][field] = odd
    except (ValueError, IndexError, AttributeError, TypeError, KeyError):
        return "it is none any more"
    text = json.dumps(header).encode()
    said = drawn.choice([len(text)] * 6 + [0, 2**63, 10**9, len(text) + 50])
    path.write_bytes(said.to_bytes(8, "little") + text + content[8 + length :])
    return f"{name}.{field} {str(odd)[:40]!r}, length {said}"


def try_open(model: Path, base: Path | None) -> str:
    """Opens a checkpoint as every command does, lists its tensors, tokenises; how it ended."""
    try:
        checkpoint = open_checkpoint(model, base)
        check_tensors(checkpoint.tensors, expected_shapes(checkpoint.config), "it")
        checkpoint.tokenizer().encode(["What is this? ", "\u4f60 </s>"])
    except UserError as error:
        return "refused" if str(error) else "refused without a word"
    return "opened"


class _Hangs(BaseException):
    """A case that takes longer than `SECONDS`."""


def _alarm(*_: object) -> None:
    raise _Hangs


def run_cases(seed: int, count: int | None, say: bool = False, minutes: float = 0, first: int = 0) -> Counter[str]:
    """Makes and opens cases, in this process.

    Args:
        seed: of the mutations; case i of a seed is always the same.
        count: number of cases; None for as many as there is time for.
        say: print every case that ends otherwise than it may, with the command that repeats it.
        minutes: without a count, the time.
        first: number of the first case.

    Returns:
        How many ended how: opened, refused, and what must not be.
    """
    ends: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as root:
        whole = {kind: make(kind, Path(root) / kind) for kind in ("whole", "shards", "pickle", "lora")}
        torch.manual_seed(0)
        end_at = time.monotonic() + 60 * minutes
        for number in itertools.count(first):
            if number - first >= count if count is not None else time.monotonic() >= end_at:
                break
            drawn = random.Random(f"{seed}.{number}")
            kind = drawn.choice(sorted(whole))
            case = Path(root) / "case"
            shutil.copytree(Path(root) / kind, case)
            done = [mutate(case, drawn) for _ in range(drawn.choice([1, 1, 2, 3]))]
            model, base = (path and case / path.relative_to(Path(root) / kind) for path in whole[kind])
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.monotonic()
            signal.alarm(round(patient(SECONDS)))
            try:
                assert model is not None
                end = try_open(model, base)
            except _Hangs:
                end = "hangs"
            except Exception as error:  # what the command would print a traceback of
                end = f"traceback: {type(error).__name__}"
                if say:
                    traceback.print_exc()
            signal.alarm(0)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
            end = f"takes {grown >> 20} MiB" if grown > GROWTH else end
            ends[end] += 1
            if say and end not in ("opened", "refused"):
                print(f"python -m tests.faults.checkpoints --seed {seed} --case {number}")
                print(f"{kind}, {time.monotonic() - start:.1f} s: {end}; {'; '.join(done)}", flush=True)
            shutil.rmtree(case)
    return ends


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.checkpoints", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: %(default)s)")
    parser.add_argument("--count", type=int, default=200, help="cases (default: %(default)s)")
    parser.add_argument("--case", type=int, metavar="N", help="only this one")
    arguments = parser.parse_args()
    count = arguments.count if arguments.case is None else 1
    ends = run_cases(arguments.seed, count, say=True, first=arguments.case or 0)
    print(f"seed {arguments.seed}: " + ", ".join(f"{number} {end}" for end, number in sorted(ends.items())))
    raise SystemExit(0 if set(ends) <= {"opened", "refused"} else 1)


if __name__ == "__main__":
    main()
