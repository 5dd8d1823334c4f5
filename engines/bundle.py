"""The engine bundle: one directory that holds everything a device needs to answer.

`bundle.json` is written last and atomically, so its presence means that the bundle is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mobilevlm.checkpoint.config import ConfigError, ModelConfig
from mobilevlm.errors import UserError, user_path

from .candidates import CANDIDATES_FILE, CHECK_FILE, CHOICE_REPORT, CandidatesError, chosen_bundle, read_candidates
from .integrity import UNRECORDED, FileRecord, check_files, record_files, record_more
from .stages import MANIFEST_FILE, TIMING_CACHE_FILE, VISION, engine_file

FORMAT_VERSION = 1


class BundleError(UserError):
    """A bundle that cannot be used here; the message names the command that mends it."""


@dataclass(frozen=True)
class Manifest:
    """What `bundle.json` says.

    Attributes:
        name: the model, for people.
        model: `ModelConfig.to_dict()`.
        target: row of `targets.TARGETS`.
        lowering: form of the decoder's cache interface.
        precision: stage to precision.
        max_context: rows of the kv cache.
        num_image_tokens: rows an image takes, 0 without vision.
        command: the command line that builds this bundle again.
        versions: of the packages that built it.
        verification: stage to {tensor: {snr_db, floor_db, max_abs_diff, mean_abs_diff, max_abs_reference, tolerance}}.
        files: name to size and sha256 of every file but this one.
        parts: graphs that the decoder is cut into, and the first layer of each and the one behind its last; only of
            lowerings that cut it.
        compiled: system, architecture and SDK that the graphs are compiled for; nothing where they are operators.
        tensorrt: what the graphs were compiled with on this machine, see `tensorrt/record.py`; nothing before that.
        spare: files that the device it is compiled for does without, and that may be missing there: what was compiled.
        machine: what decides how the build's own stages were computed, see `machine.fingerprint`; nothing in bundles
            of older versions.
        seal: sha256 of all of the above, so that an edited manifest is noticed like any altered file.
    """

    name: str
    model: dict[str, Any]
    target: str
    lowering: str
    precision: dict[str, str]
    max_context: int
    num_image_tokens: int
    command: str
    versions: dict[str, str]
    verification: dict[str, Any]
    files: dict[str, dict[str, Any]]
    parts: dict[str, list[int]] = field(default_factory=dict)
    compiled: dict[str, str] = field(default_factory=dict)
    tensorrt: dict[str, Any] = field(default_factory=dict)
    spare: list[str] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    seal: str = ""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose files are all there and unaltered."""

    directory: Path
    manifest: Manifest
    config: ModelConfig

    @property
    def has_vision(self) -> bool:
        """Whether it takes pictures."""
        return VISION in self.manifest.precision

    def path(self, name: str) -> Path:
        """A file of the bundle."""
        return self.directory / name

    @classmethod
    def open(cls, directory: str | Path, compiling: bool = False) -> Bundle:
        """Open a bundle and check that its files are complete.

        Sizes are always compared. A file is hashed when it is new here: after a copy, or when its modification time is
        not the one seen at the last good hash.

        Args:
            directory: of the bundle.
            compiling: whether what was compiled may be missing or altered, because it can be made again.

        Raises:
            BundleError: there is no bundle, it was only half copied, a file was altered, or it is of another format.
        """
        directory = chosen_bundle(user_path(directory))
        manifest = _read_manifest(directory)
        wanted = {
            name: record
            for name, record in manifest.files.items()
            if (name not in manifest.spare or (directory / name).exists())
            and not (compiling and is_compiled_here(name))
        }
        check_files(directory, wanted, lambda problem: _damaged(directory, manifest, problem))
        try:
            config = ModelConfig.from_dict(manifest.model)
        except ConfigError as error:
            raise _damaged(directory, manifest, f"its model description is wrong: {error}") from None
        return cls(directory, manifest, config)


def write_manifest(directory: Path, **values: Any) -> Manifest:
    """Finish a bundle: hash every file in `directory` and write `bundle.json` (arguments: fields of `Manifest`)."""
    files: dict[str, FileRecord] = record_files(directory)
    manifest = Manifest(files={name: asdict(record) for name, record in files.items()}, **values)
    return _write(directory, manifest)


def amend_manifest(directory: Path, manifest: Manifest, names: Iterable[str], **values: Any) -> Manifest:
    """Write `bundle.json` again, for files that were compiled where the bundle runs.

    Args:
        directory: of the bundle.
        manifest: as it was.
        names: of the new files, which are hashed; records of files that are gone are dropped.
        **values: fields of `Manifest` that change.
    """
    records = {name: asdict(record) for name, record in record_more(directory, names).items()}
    kept = {
        name: record
        for name, record in manifest.files.items()
        if not is_compiled_here(name) or (directory / name).is_file()
    }
    return _write(directory, replace(manifest, files=kept | records, **values))


def is_compiled_here(name: str) -> bool:
    """Whether a file is made where the bundle runs, by `engines/compile.py`."""
    return name == TIMING_CACHE_FILE or name.endswith(engine_file(""))


def _write(directory: Path, manifest: Manifest) -> Manifest:
    manifest = replace(manifest, seal=seal_of(asdict(manifest)))
    partial = directory / (MANIFEST_FILE + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.rename(directory / MANIFEST_FILE)
    return manifest


def seal_of(manifest: dict[str, Any]) -> str:
    """The seal that belongs to a manifest's other fields."""
    fields = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def foreign_files(directory: Path) -> list[str]:
    """Names in a bundle's directory, or in a folder of candidates, that are not theirs."""
    try:
        if candidates := read_candidates(directory):
            known = {CANDIDATES_FILE, CHECK_FILE, CHOICE_REPORT, *candidates.names}
            return sorted(path.name for path in directory.iterdir() if path.name not in known)
        files = json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
        known = {*files, *UNRECORDED}
    except (OSError, ValueError, KeyError, TypeError, CandidatesError):
        return []  # a damaged bundle: there is nothing to compare with
    return sorted(path.name for path in directory.iterdir() if path.name not in known)


def is_bundle(directory: Path) -> bool:
    """Whether a directory holds a finished bundle, or candidates for one."""
    return (directory / MANIFEST_FILE).is_file() or (directory / CANDIDATES_FILE).is_file()


def _read_manifest(directory: Path) -> Manifest:
    build = f"python export/build_engines.py --model DIR --target host --out {directory}"
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        raise BundleError(f"there is no engine bundle at {directory}. Build one: {build}")
    if not path.is_file():
        raise BundleError(f"{directory} is no finished engine bundle: {MANIFEST_FILE} is missing. Build it: {build}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["format_version"]
        if version == FORMAT_VERSION:
            if raw.get("seal") != seal_of(raw):
                raise ValueError("it was edited")
            return Manifest(**raw)
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = str(error).splitlines()[0]
        raise BundleError(f"{path} cannot be read ({detail}). Copy the bundle again or build it: {build}") from None
    raise BundleError(
        f"{directory} has bundle format {version}, this version reads {FORMAT_VERSION}. Build it again: "
        f"{raw.get('command', build)}"
    )


def _damaged(directory: Path, manifest: Manifest, problem: str) -> BundleError:
    return BundleError(
        f"the bundle {directory} is damaged: {problem}. Copy it again from where it was built, or build it again: "
        f"{manifest.command}"
    )
