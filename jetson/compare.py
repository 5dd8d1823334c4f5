"""Compares two runs of jetson/benchmark.py: how much longer B takes than A, stage by stage, with 95 % intervals.

    python jetson/benchmark.py --engine DIR_A --save a.json
    python jetson/benchmark.py --engine DIR_B --save b.json
    python jetson/compare.py a.json b.json
    python jetson/compare.py --across 15w.json maxn.json     boards, power modes, clocks or workloads that differ

A file may also be all that benchmark.py printed. Refuses runs that were not measured alike, unless --across says that
this is what is being compared; differences are printed either way.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mobilevlm.commands import run_command
from mobilevlm.engines.tables import aligned_table
from mobilevlm.errors import UserError, user_path
from mobilevlm.jetson.benchmark import FORMAT
from mobilevlm.runtime.bench.ratios import COLUMNS, unpaired_ratio

# What has to be the same for a ratio to be that of the engines: path in the document to its name in messages.
ALIKE: dict[tuple[str, ...], str] = {
    ("board", "module"): "board",
    ("board", "model"): "model of the board",
    ("board", "power_mode"): "power mode",
    ("board", "gpu_clock", "highest"): "highest GPU clock, MHz",
    ("board", "gpu_clock", "lowest"): "lowest GPU clock, MHz",
    ("board", "emc_clock", "highest"): "highest memory clock, MHz",
    ("plan", "prompt_tokens"): "prompt tokens",
    ("plan", "decode_tokens"): "decode tokens",
}
TOLD: dict[tuple[str, ...], str] = {  # may differ, and is printed
    ("board", "l4t"): "L4T",
    ("versions", "tensorrt"): "TensorRT",
    ("versions", "onnxruntime"): "ONNX Runtime",
    ("engine", "name"): "model",
    ("engine", "precision"): "precision",
    ("engine", "lowering"): "lowering",
    ("engine", "max_context"): "context",
}


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("first", metavar="A", help="a file with what benchmark.py printed")
    self.add_argument("second", metavar="B", help="another")
    self.add_argument("--across", action="store_true", help="compare although board, mode or workload differ")
    return self


def compare(arguments: argparse.Namespace) -> None:
    """Prints what differs and the ratios.

    Raises:
        UserError: a file that holds no run, or two runs that were not measured alike.
    """
    files = (arguments.first, arguments.second)
    first, second = (read_run(file) for file in files)
    unlike, told = list(differences(first, second, ALIKE)), list(differences(first, second, TOLD))
    if unlike and not arguments.across:
        raise UserError(
            f"these runs were not measured alike ({'; '.join(unlike)}), so a ratio is not the engines'. Measure again, "
            "or compare with --across if that is what you want to know"
        )
    lines = [f"{letter} = {file}" for letter, file in zip("AB", files, strict=True)]
    lines += [f"differs: {line}" for line in [*unlike, *told]]
    lines += [f"{letter} was throttled: {sentence}" for letter, sentence in _throttled(first, second)]
    print("\n".join([*lines, "", "B / A, below 1 B is faster"]))
    print(aligned_table(COLUMNS, list(_stage_rows(first, second))))
    if rows := list(_energy_rows(first, second)):
        print("\n" + aligned_table(["joules an answer", "A", "B", "B / A"], rows))


def read_run(file: str) -> dict[str, Any]:
    """Reads the document at the end of a file.

    Raises:
        UserError: there is no file, or it ends in something else.
    """
    path = user_path(file)
    try:
        document = json.loads(path.read_text(errors="replace").rstrip().splitlines()[-1])
        if document["format"] != FORMAT:
            raise UserError(f"{path} has format {document['format']}, this version reads {FORMAT}: measure again")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (ValueError, IndexError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} does not end in the line of JSON that jetson/benchmark.py prints") from None
    return document


def differences(first: dict[str, Any], second: dict[str, Any], paths: Mapping[tuple[str, ...], str]) -> Iterator[str]:
    """Describes what differs, a line each.

    Args:
        first: document of a run.
        second: document of another run.
        paths: path of each value in the documents, to its name in messages.
    """
    for path, name in paths.items():
        before, after = _at(first, path), _at(second, path)
        if before != after:
            yield f"{name}: {_shown(before)} against {_shown(after)}"


def _stage_rows(first: dict[str, Any], second: dict[str, Any]) -> Iterator[list[str]]:
    for name in first["stages"]:
        if name in second["stages"]:
            before, after = (run["stages"][name]["each_ms"] for run in (first, second))
            cells = unpaired_ratio(name, before, after).cells(float(np.median(before)), float(np.median(after)))
            if min(len(before), len(after)) < 2:
                cells[-1] = "one run each"
            yield cells


def _energy_rows(first: dict[str, Any], second: dict[str, Any]) -> Iterator[list[str]]:
    """Only of sets of the same rails: sums of different ones do not compare."""
    by_rails = {tuple(one["rails"]): one["joules_per_answer"] for one in second["energy"]}
    for one in first["energy"]:
        if (after := by_rails.get(tuple(one["rails"]))) is not None:
            before = one["joules_per_answer"]
            name = f"{one['name']} ({' + '.join(one['rails'])})"
            yield [name, f"{before:.2f}", f"{after:.2f}", f"{after / before:.3f}"]


def _throttled(first: dict[str, Any], second: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for letter, run in zip("AB", (first, second), strict=True):
        yield from ((letter, sentence) for sentence in run["throttling"]["noticed"])


def _at(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    return "unknown" if value is None else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit status 0, 2 for a mistake of the user's or runs that do not compare."""
    run_command(parser(), compare, arguments)


if __name__ == "__main__":
    main()
