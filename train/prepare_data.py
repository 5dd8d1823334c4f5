"""Checks training and benchmark data before a GPU hour is spent: which file, which image is missing, and who has it.

python train/prepare_data.py --data data --for v2_stage1 v2_stage2
python train/prepare_data.py --data data --for all --full --report missing.json
python train/prepare_data.py --json my.json --images DIR

Exit status 0: all there. 2: something is missing or broken. Rows are counted from 0. No file is changed.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mobilevlm.commands import run_command
from mobilevlm.datasets import GROUPS, DataSet
from mobilevlm.errors import UserError, user_path
from mobilevlm.train.data_check import Fault, Findings, check

UNLEARNED = "  rows that can be used, but training learns nothing from them, as the original does:"
EXAMPLES = 5  # images or rows shown of a kind; --report has them all


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="prepare_data.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = self.add_mutually_exclusive_group(required=True)
    what.add_argument("--for", dest="groups", nargs="+", choices=GROUPS, help="published data, by who reads it")
    what.add_argument("--json", metavar="FILE", help="a list of conversations of your own")
    self.add_argument("--data", metavar="DIR", help="the published directory tree (default: data)")
    self.add_argument("--images", metavar="DIR", help="where --json's image paths start (default: its own folder)")
    self.add_argument(
        "--template", choices=("v1", "plain"), help="what --json is for: conversations (v1, the default) or captions"
    )
    self.add_argument("--full", action="store_true", help="also open every image")
    self.add_argument("--workers", type=int, metavar="N", help="processes for --full (default: one per core)")
    self.add_argument("--report", metavar="FILE", help="write everything that was found, as JSON")
    return self


def prepare(arguments: argparse.Namespace) -> None:
    """Checks the data sets one by one and prints what was found.

    Raises:
        UserError: something is missing or broken, or options do not go together.
    """
    root, data_sets = _chosen(arguments)
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}, it has to be at least 1")
    report = user_path(arguments.report) if arguments.report else None
    if report is not None and not report.parent.is_dir():
        raise UserError(f"--report: there is no directory {report.parent}")
    everything = []
    for data_set in data_sets:
        found = check(data_set, root, arguments.full, arguments.workers)
        print("\n".join(_lines(found)), flush=True)
        everything.append(found)
    if report is not None:
        _write_report(everything, report)
    not_ready = [found.data_set.name for found in everything if found.faults]
    if not_ready:
        listed = f"; {report} lists everything" if report else "; --report FILE lists everything"
        raise UserError(f"{len(not_ready)} of {len(everything)} data sets not ready: {', '.join(not_ready)}{listed}")


def _chosen(arguments: argparse.Namespace) -> tuple[Path, list[DataSet]]:
    """Data sets to check, and the directory where their paths start."""
    if arguments.json is None:
        if arguments.images or arguments.template:
            raise UserError("--images and --template go with --json: published data has both laid down")
        chosen = {item.name: item for group in arguments.groups for item in GROUPS[group]}
        return user_path(arguments.data or "data"), list(chosen.values())
    if arguments.data:
        raise UserError("--data goes with --for; with --json, say --images DIR")
    path = user_path(arguments.json)
    images = user_path(arguments.images) if arguments.images else path.parent
    form = arguments.template or "v1"
    own = DataSet(path.name, str(path), source="", form=form, images=str(images), folders={})
    return Path(), [own]


def _lines(found: Findings) -> Iterator[str]:
    """Report of one data set: one line when it is ready, otherwise its faults below that line."""
    amount = f"{found.rows} rows, {found.images} images"
    counts = Counter(fault.kind for fault in found.faults)
    if not counts:
        yield f"{found.data_set.name}: ok, {amount}"
        yield from _examples(found.unlearned, UNLEARNED)
        return
    problems = ", ".join(f"{count} {_plural(kind, count)}" for kind, count in counts.items())
    yield f"{found.data_set.name}: {problems} ({amount})"
    for fault in found.faults:
        if fault.kind in ("missing file", "missing folder", "unreadable file"):
            yield f"  {fault.what} {fault.why or 'is missing'}.{_source(fault)}"
    yield from _examples([fault for fault in found.faults if fault.kind == "broken row"], "  rows that cannot be used:")
    for kind in ("missing image", "broken image"):
        by_folder: dict[str, list[Fault]] = {}
        for fault in found.faults:
            if fault.kind == kind:
                by_folder.setdefault(fault.folder or "", []).append(fault)
        for folder, faults in by_folder.items():
            yield from _examples(faults, f"  {_folder_line(found, folder, faults)}")
    yield from _examples(found.unlearned, UNLEARNED)


def _plural(kind: str, count: int) -> str:
    adjective, noun = kind.split()
    return f"{noun if count == 1 else noun + 's'} {adjective}"


def _source(fault: Fault) -> str:
    return f" Get it from {fault.where_from}" if fault.where_from else ""


def _folder_line(found: Findings, folder: str, faults: list[Fault]) -> str:
    """Line on a folder: how many of its images are missing or broken, and who offers them."""
    home = found.data_set.home_of(faults[0].what.rpartition("/")[0])
    of = f"{len(faults)} of the {found.images_by_home[home]} images"
    if faults[0].kind == "broken image":
        said = f"{folder}: {of} cannot be opened."
    elif Path(folder).is_dir():
        said = f"{folder}: {of} are missing."
    else:
        said = f"{folder}: no such folder; {found.images_by_home[home]} images are named in it."
    return said + _source(faults[0]).replace("Get it", "Get them")


def _examples(faults: list[Fault], heading: str) -> Iterator[str]:
    if not faults:
        return
    yield heading
    for fault in faults[:EXAMPLES]:
        name = f" (id {fault.row_id})" if fault.row_id else ""
        what = fault.why if fault.kind.endswith("row") else fault.what
        why = f": {fault.why}" if fault.why and not fault.kind.endswith("row") else ""
        yield f"    row {fault.row}{name}: {what}{why}"
    if len(faults) > EXAMPLES:
        yield f"    and {len(faults) - EXAMPLES} more"


def _write_report(everything: list[Findings], path: Path) -> None:
    """Writes all faults of all data sets as JSON, without empty fields."""
    listed = [
        {
            "name": found.data_set.name,
            "ready": not found.faults,
            "annotations": found.data_set.annotations,
            "rows": found.rows,
            "images": found.images,
            "faults": [_as_json(fault) for fault in found.faults],
            "unlearned": [_as_json(fault) for fault in found.unlearned],
        }
        for found in everything
    ]
    path.write_text(json.dumps(listed, indent=1) + "\n")


def _as_json(fault: Fault) -> dict[str, Any]:
    return {key: value for key, value in asdict(fault).items() if value not in (None, "")}


def main() -> None:
    """Entry point: exit status 0, 2 for something missing or a mistake of the person's, 1 for one of ours."""
    run_command(parser(), prepare)


if __name__ == "__main__":
    main()
