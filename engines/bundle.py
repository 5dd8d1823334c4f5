"""The engine bundle: one directory that holds everything a device needs to answer.

`bundle.json` is written last and atomically, so its presence means that the bundle is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mobilevlm.atomic_file import write_whole
from mobilevlm.checkpoint.config import ConfigError, ModelConfig
from mobilevlm.commands import command, localized
from mobilevlm.errors import UserError, user_path

from .candidates import CANDIDATES_FILE, CHECK_FILE, CHOICE_REPORT, CandidatesError, chosen_bundle, read_candidates
from .integrity import UNRECORDED, check_files, record_files, record_more
from .leftovers import leftovers
from .manifest import FORMAT_VERSION, ChoicesEntry, Manifest, TensorrtEntry, seal_of
from .manifest_defaults import with_forms
from .stages import MANIFEST_FILE, TIMING_CACHE_FILE, VISION, engine_file


class BundleError(UserError):
    """A bundle that cannot be used here; the message names the command that mends it."""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose files are all there and unaltered.

    Attributes:
        directory: with the files.
        manifest: content of its `bundle.json`.
        config: the model's.
    """

    directory: Path
    manifest: Manifest
    config: ModelConfig

    @property
    def has_vision(self) -> bool:
        """Whether the bundle answers questions about images."""
        return VISION in self.manifest.precision

    def path(self, name: str) -> Path:
        """Path of a file of the bundle."""
        return self.directory / name

    @classmethod
    def open(cls, directory: str | Path, compiling: bool = False) -> Bundle:
        """Opens a bundle and checks that its files are complete.

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


def write_manifest(directory: Path, manifest: Manifest) -> Manifest:
    """Finishes a bundle: hashes its files and writes `bundle.json`.

    Args:
        directory: of the bundle, complete but for the manifest.
        manifest: without files and seal.

    Returns:
        The manifest with both.
    """
    return _write(directory, replace(manifest, files=record_files(directory)))


def amend_manifest(
    directory: Path,
    manifest: Manifest,
    names: Iterable[str],
    tensorrt: TensorrtEntry | None = None,
    spare: list[str] | None = None,
    choices: ChoicesEntry | None = None,
) -> Manifest:
    """Writes `bundle.json` again, for files that were compiled where the bundle runs, or for a calibration.

    Args:
        directory: of the bundle.
        manifest: as it was.
        names: of the new files, which are hashed; records of files that are gone are dropped.
        tensorrt: new content of the field; None for what it was.
        spare: new content of the field; None for what it was.
        choices: new content of the field; None for what it was.

    Returns:
        The manifest as it is now.
    """
    kept = {
        name: record
        for name, record in manifest.files.items()
        if not is_compiled_here(name) or (directory / name).is_file()
    }
    amended = replace(
        manifest,
        files=kept | record_more(directory, names),
        tensorrt=manifest.tensorrt if tensorrt is None else tensorrt,
        spare=manifest.spare if spare is None else spare,
        choices=manifest.choices if choices is None else choices,
    )
    return _write(directory, amended)


def is_compiled_here(name: str) -> bool:
    """Tells whether a file is made where the bundle runs, by `engines/compile.py`."""
    return name == TIMING_CACHE_FILE or name.endswith(engine_file(""))


def _write(directory: Path, manifest: Manifest) -> Manifest:
    manifest = replace(manifest, seal=seal_of(asdict(manifest)))
    write_whole(directory / MANIFEST_FILE, (json.dumps(asdict(manifest), indent=2) + "\n").encode())
    return manifest


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
    """Tells whether a directory holds a finished bundle, or candidates for one."""
    return (directory / MANIFEST_FILE).is_file() or (directory / CANDIDATES_FILE).is_file()


def _read_manifest(directory: Path) -> Manifest:
    build = command("export/build_engines.py", "--model", "DIR", "--target", "host", "--out", directory)
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        left = "".join(f". There, {one}" for one in leftovers(directory.absolute().parent))
        raise BundleError(f"there is no engine bundle at {directory}. Build one: {build}{left}")
    if not path.is_file():
        raise BundleError(f"{directory} is no finished engine bundle: {MANIFEST_FILE} is missing. Build it: {build}")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        version = raw["format_version"]
        if version == FORMAT_VERSION:
            if raw.get("seal") != seal_of(raw):
                raise ValueError("it was edited")
            return Manifest(**with_forms(raw))
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = str(error).splitlines()[0]
        raise BundleError(f"{path} cannot be read ({detail}). Copy the bundle again or build it: {build}") from None
    raise BundleError(
        f"{directory} has bundle format {version}, this version reads {FORMAT_VERSION}. Build it again: "
        f"{localized(raw.get('command', build))}"
    )


def _damaged(directory: Path, manifest: Manifest, problem: str) -> BundleError:
    return BundleError(
        f"the bundle {directory} is damaged: {problem}. Copy it again from where it was built, or build it again: "
        f"{localized(manifest.command)}"
    )
