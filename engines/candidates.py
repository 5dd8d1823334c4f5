"""A folder of bundles of one model, one for each precision, of which the board keeps one.

`build_engines.py --precision auto` makes it, with what PyTorch would say to a few conversations; `runtime/choose.py`
measures each where it will run and notes which one it is from then on.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mobilevlm.atomic_file import write_whole
from mobilevlm.commands import command
from mobilevlm.errors import UserError

from .json_file import read_json_file
from .manifest import LongText, Name, Text
from .typed_json import typed

AUTO = "auto"  # what `--precision` takes for it
CANDIDATES_FILE, CHECK_FILE, CHOICE_REPORT = "candidates.json", "check.safetensors", "choice.md"


class CandidatesError(UserError):
    """A folder of candidates that cannot be used as it is; the message says what to do."""


@dataclass(frozen=True)
class Candidates:
    """Content of `candidates.json`.

    Attributes:
        names: of bundles in it, by precision.
        command: that builds it again.
        left_out: precisions that differ too much from PyTorch, and by how much.
        chosen: one of the names; empty until a board has chosen.
        measured: figures of every candidate when one was chosen, by its name.
    """

    names: list[Name]
    command: Text
    left_out: dict[Name, LongText] = field(default_factory=dict)
    chosen: str = ""
    measured: dict[Name, dict[Text, float]] = field(default_factory=dict)


def read_candidates(directory: Path) -> Candidates | None:
    """Reads a folder's file of candidates; None where there is none.

    Raises:
        CandidatesError: the file is damaged.
    """
    path = directory / CANDIDATES_FILE
    if not path.is_file():
        return None
    try:
        found = typed(Candidates, read_json_file(path)[0])
        if len({*found.names}) < len(found.names):
            raise ValueError("it names a candidate twice")
        if not found.names or found.chosen not in (*found.names, ""):
            raise ValueError("it names no candidates")
        return found
    except (OSError, ValueError) as error:
        raise CandidatesError(f"{path} cannot be read ({error}): copy the folder again, or build it again") from None


def write_candidates(directory: Path, candidates: Candidates) -> None:
    """Writes the folder's file, whole or not at all.

    Args:
        directory: the folder.
        candidates: content of the file.
    """
    write_whole(directory / CANDIDATES_FILE, json.dumps(asdict(candidates), indent=2).encode())


def choose(directory: Path, candidates: Candidates, name: str, measured: dict[str, dict[str, float]]) -> None:
    """Notes the chosen bundle, then removes the others: at any moment in between the folder can be used.

    Args:
        directory: the folder.
        candidates: content of its file so far.
        name: of the chosen bundle.
        measured: figures of every candidate, by its name.
    """
    write_candidates(directory, replace(candidates, chosen=name, measured=measured))
    remove_others(directory, candidates.names, name)


def remove_others(directory: Path, names: list[str], chosen: str) -> None:
    """Removes the candidates that were not chosen, as far as they are still there.

    Args:
        directory: the folder.
        names: of all candidates.
        chosen: the one to keep.
    """
    for name in names:
        if name != chosen:
            shutil.rmtree(directory / name, ignore_errors=True)


def chosen_bundle(directory: Path) -> Path:
    """Returns the bundle to open for a directory: itself, or the one that was chosen in it.

    Raises:
        CandidatesError: none was chosen yet; names the command that does.
    """
    candidates = read_candidates(directory)
    if candidates is None:
        return directory
    if not candidates.chosen:
        raise CandidatesError(
            f"{directory} holds {', '.join(candidates.names)}, of which none is chosen yet: measure them where they "
            f"will run, with {choose_command(directory)}"
        )
    return directory / candidates.chosen


def choose_command(directory: Path) -> str:
    """Returns the command that measures a folder's candidates and chooses one."""
    return command("runtime/choose.py", "--engine", directory)
