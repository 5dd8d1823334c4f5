"""Cases of the fuzzer of bundles: which file of a copy is mutated, how, and whether the seal is made anew."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import bundle_mutations as mutations

KINDS = ("raw", "resealed", "manifest", "truncated", "swapped", "linked", "beside")
SIDE_FILES = (".seen.json", ".checked.json", "candidates.json", "added_tokens.json", ".seen.json.partial", "report.md")


@dataclass(frozen=True)
class Case:
    """A mutated bundle.

    Attributes:
        seed: that it was made from.
        kind: one of `KINDS`.
        what: was done.
        may_differ: whether another answer is right: the seal was made anew.
        checks: whether the sample is run.
    """

    seed: int
    kind: str
    what: str
    may_differ: bool
    checks: bool


def make_case(seed: int, bases: Sequence[Path], directory: Path) -> Case:
    """Puts a mutated copy of a bundle into a directory.

    Args:
        seed: decides everything.
        bases: intact bundles, of which one is mutated.
        directory: that is not there yet.
    """
    draws = random.Random(seed)
    base = draws.choice(bases)
    directory.mkdir()
    for path in base.iterdir():
        if path.name not in (".seen.json", ".checked.json"):
            os.link(path, directory / path.name)
    kind, checks = draws.choice(KINDS), draws.random() < 0.5
    names = sorted(path.name for path in directory.iterdir() if path.name not in ("report.md", mutations.MANIFEST))
    what, resealed = _mutated(kind, directory, draws, names, bases)
    return Case(seed, kind, f"{base.name}: {what}", resealed, checks)


def _mutated(
    kind: str, directory: Path, draws: random.Random, names: list[str], bases: Sequence[Path]
) -> tuple[str, bool]:
    """Mutates a copy; returns what was done, and whether the seal was made anew."""
    name, resealed = draws.choice(names), draws.random() < 0.5
    path = directory / name
    if kind == "raw":
        path = directory / draws.choice([*names, mutations.MANIFEST])
        mutations.mutate_file(path, draws)
        return f"{path.name} altered", False
    if kind == "resealed":
        mutations.mutate_file(path, draws)
        mutations.reseal(directory, changed=(name,))
        return f"{name} altered", True
    if kind == "manifest":
        manifest = json.loads((directory / mutations.MANIFEST).read_text())
        what = ", ".join(mutations.mutate_tree(manifest, draws) for _ in range(draws.choice((1, 1, 2))))
        mutations.reseal(directory, manifest)
        return what, True
    if kind == "truncated":
        content = path.read_bytes()
        mutations.overwrite(path, content[: draws.randrange(len(content))])
    elif kind == "swapped":
        other = draws.choice(bases)
        theirs = draws.choice([one.name for one in other.iterdir() if one.is_file() and not one.name.startswith(".")])
        mutations.overwrite(
            path, (other / (name if (other / name).is_file() and draws.random() < 0.6 else theirs)).read_bytes()
        )
    elif kind == "linked":
        target = directory / draws.choice([*names, mutations.MANIFEST])
        return f"{target.name}: {mutations.link_out(target, draws, draws.choice(bases))}", False
    else:
        return _put_beside(directory, draws), False
    if resealed:
        mutations.reseal(directory, changed=(name,))
    return f"{name}, {'' if resealed else 'not '}sealed anew", resealed


def _put_beside(directory: Path, draws: random.Random) -> str:
    path = directory / draws.choice(SIDE_FILES)
    path.unlink(missing_ok=True)
    content: object = draws.choice(mutations.VALUES)
    if path.name == "candidates.json":
        content = {"names": ["a", ".."], "command": "x", "chosen": draws.choice(("..", "a", "", "../x", 5, "/etc"))}
    kind = draws.choice(("value", "value", "deep", "random", "fifo", "device", "huge"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        contents = {
            "value": json.dumps(content).encode(),
            "deep": b"[" * 200_000,
            "random": draws.randbytes(200),
            "huge": b"[" + b"1," * 1_500_000 + b"1]",
        }
        path.write_bytes(contents[kind])
    return f"{path.name}: {kind}"
