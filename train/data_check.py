"""Check of one data set: whether every file exists, every row is usable, and every image that a row names exists."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from mobilevlm.datasets import DataSet
from mobilevlm.image import ImageError, load_image
from mobilevlm.mmbench_table import TableError, picture_of, read_table
from mobilevlm.rows.annotations import AGAIN, AnnotationError, Row, read_rows, read_through
from mobilevlm.rows.image_names import Folder, missing_hint
from mobilevlm.rows.rules import images_of, problem_of, why_unlearned
from mobilevlm.text_file import printable

# Folder below the image root -> file name -> the first row that names it, and that row's id.
Named = dict[str, dict[str, tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a data set.

    Attributes:
        kind: "missing" or "unreadable file", "missing folder", "broken row", "missing" or "broken image".
        what: the file, or the image as the row names it.
        why: the problem in words, where there is more to say.
        where_from: who offers the file or image, if known.
        row: number from 0 of the first row that names the image.
        row_id: id of that row.
        folder: for an image, the folder it belongs to.
    """

    kind: str
    what: str
    why: str = ""
    where_from: str | None = None
    row: int | None = None
    row_id: str | None = None
    folder: str | None = None


@dataclass
class Findings:
    """Result of a check: `faults` is empty when the data set is ready; from `unlearned` rows nothing is learned."""

    data_set: DataSet
    rows: int = 0
    images: int = 0
    images_by_home: dict[str, int] = field(default_factory=dict)
    unlearned: list[Fault] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def check(data_set: DataSet, root: Path, full: bool = False, workers: int | None = None) -> Findings:
    """Checks a data set, with progress bars on a terminal. Changes no file.

    Args:
        data_set: what to check; its paths start from `root`.
        root: the data directory.
        full: also open every image, in processes.
        workers: number of processes; None for one per core.
    """
    found = Findings(data_set)
    annotations = root / data_set.annotations
    named: Named = {}
    if annotations.is_file():
        try:
            if data_set.form == "table":
                _read_table(annotations, found, full)
            else:
                _read(annotations, found, named)
            if found.rows == 0:
                raise AnnotationError(f"has no rows. {AGAIN}")
        except AnnotationError as error:
            found.faults.append(Fault("unreadable file", str(annotations), str(error), data_set.source))
    else:
        found.faults.append(Fault("missing file", str(annotations), where_from=data_set.source))
        found.faults += _missing_folders(data_set, root)
    for name, where_from in data_set.also.items():
        found.faults += _further_file(root / name, where_from)
    if data_set.images is not None:
        found.images = sum(map(len, named.values()))
        _look_for_images(found, named, root / data_set.images)
        if full:
            _open_images(found, named, root / data_set.images, workers)
    return found


def _read(path: Path, found: Findings, named: Named) -> None:
    """Reads the rows once: counts them, notes faults, gathers the images they name."""
    form = found.data_set.form
    with tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name, leave=False, disable=None) as bar:
        for number, row in enumerate(read_rows(path, bar.update)):
            found.rows += 1
            problem = problem_of(row, form)
            if problem is None:
                if form == "v1" and (why := why_unlearned(row)):
                    found.unlearned.append(Fault("unlearned row", str(path), why, None, number, _id_of(row)))
                for image in images_of(row):
                    folder, _, name = image.rpartition("/")
                    if name not in (files := named.setdefault(folder, {})):
                        files[name] = (number, _id_of(row))
            else:
                found.faults.append(Fault("broken row", str(path), problem, None, number, _id_of(row)))


def _read_table(path: Path, found: Findings, full: bool) -> None:
    """Checks MMBench's table, which holds its images, as evaluation reads it."""
    try:
        rows = read_table(path)
    except TableError as error:
        raise AnnotationError(f"{error}. {AGAIN}") from None
    found.rows = found.images = len(rows)
    for number, index in enumerate(rows):
        try:
            image = picture_of(index, rows)
            if full:
                load_image(image)
        except (TableError, ImageError) as error:
            why = str(error) if isinstance(error, TableError) else f"its picture: {error}"
            found.faults.append(Fault("broken row", str(path), why, None, number, str(index)))


def _id_of(row: Row) -> str:
    """Id of a row, under whichever key its format has it."""
    ids = [row[key] for key in ("id", "question_id") if key in row] if isinstance(row, dict) else []
    return printable(ids[0])[:100] if ids else ""


def _missing_folders(data_set: DataSet, root: Path) -> Iterator[Fault]:
    """Faults of missing folders: without annotations the images are not known, but their folders are."""
    for home, where_from in data_set.folders.items():
        path = root / (data_set.images or ".") / home
        if data_set.images is not None and not path.is_dir():
            yield Fault("missing folder", f"{path}/", where_from=where_from)


def _further_file(path: Path, where_from: str) -> list[Fault]:
    if not path.is_file():
        return [Fault("missing file", str(path), where_from=where_from)]
    try:
        read_through(path)
    except AnnotationError as error:
        return [Fault("unreadable file", str(path), str(error), where_from)]
    return []


def _look_for_images(found: Findings, named: Named, images: Path) -> None:
    """Lists every folder once; missing images are noted and removed from `named`."""
    for folder, files in tqdm(named.items(), unit="folders", desc="looking for images", leave=False, disable=None):
        home = found.data_set.home_of(folder)
        found.images_by_home[home] = found.images_by_home.get(home, 0) + len(files)
        present = Folder(images / folder)
        for name in [name for name in files if name not in present.names]:
            why = present.hint(name) or missing_hint(f"{folder}/{name}" if folder else name, images)
            found.faults.append(_image_fault("missing image", why, found, images, (folder, name, *files.pop(name))))


def _image_fault(kind: str, why: str, found: Findings, images: Path, place: tuple[str, str, int, str]) -> Fault:
    """Fault of the image at `place`: folder, name, and the number and id of the first row that names it."""
    folder, name, row, row_id = place
    home = found.data_set.home_of(folder)
    what = f"{folder}/{name}" if folder else name
    return Fault(kind, what, why, found.data_set.folders.get(home), row, row_id, str(images / home))


def _open_images(found: Findings, named: Named, images: Path, workers: int | None) -> None:
    """Decodes every image that exists, and notes those that cannot be decoded."""
    known = [(folder, name) for folder, files in named.items() for name in files]
    paths = [str(images / folder / name) for folder, name in known]
    with ProcessPoolExecutor(workers, initializer=_ignore_ctrl_c) as pool:
        problems = pool.map(_image_problem, paths, chunksize=64)
        bar = tqdm(problems, total=len(paths), unit="images", desc="opening images", leave=False, disable=None)
        for (folder, name), problem in zip(known, bar, strict=True):
            if problem is not None:
                place = (folder, name, *named[folder][name])
                found.faults.append(_image_fault("broken image", problem, found, images, place))


def _ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers it; a worker would add a traceback


def _image_problem(path: str) -> str | None:
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None
