"""The engine bundle: one directory that holds everything a device needs to answer.

`bundle.json` is written last and atomically, so its presence means that the bundle is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.commands import command, localized
from mobilevlm.errors import UserError, utf_8_path
from mobilevlm.leftovers import leftovers

from .candidates import CANDIDATES_FILE, CHECK_FILE, CHOICE_REPORT, CandidatesError, chosen_bundle, read_candidates
from .consistency import check_manifest, is_build_command, unlisted
from .integrity import UNRECORDED, check_files, is_leftover, record_files, record_more
from .json_file import read_json_file
from .manifest import FORMAT_VERSION, ChoicesEntry, Manifest, TensorrtEntry, seal_of
from .manifest_defaults import with_forms
from .signature import SecretKey, SignatureError
from .stages import MANIFEST_FILE, TIMING_CACHE_FILE, VISION, engine_file
from .trust import Trust, replace_manifest, require_trusted
from .typed_json import typed


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
        """Path of a file in the bundle's directory."""
        return self.directory / name

    def file(self, name: str) -> Path:
        """Path of a file that the manifest lists, and that was compared with it.

        Raises:
            BundleError: it lists no such file.
        """
        if name not in self.manifest.files:
            raise self.damaged(f"{MANIFEST_FILE} lists no {name}")
        return self.directory / name

    def damaged(self, problem: str) -> BundleError:
        """Returns the error for a file that is not what a build writes, with the commands that mend it."""
        return _damaged(self.directory, self.manifest, problem)

    @classmethod
    def open(cls, directory: str | Path, compiling: bool = False, trust: Trust = ()) -> Bundle:
        """Opens a bundle and checks that its manifest can be believed and its files are complete.

        Sizes are always compared. A file is hashed when it is new here: after a copy, or when its modification time is
        not the one seen at the last good hash. Where keys are trusted, all files are hashed.

        Args:
            directory: of the bundle.
            compiling: whether what was compiled may be missing or altered, because it can be made again.
            trust: public keys, of which one has to have signed the bundle (`signature.py`); empty for any bundle.

        Raises:
            BundleError: there is no bundle, it was only half copied, a file was altered, it is of another format, or it
                is not signed with a trusted key.
        """
        directory = chosen_bundle(utf_8_path(directory))
        manifest, is_signed = _read_manifest(directory, trust)
        try:
            config = ModelConfig.from_dict(manifest.model)
            check_manifest(manifest, config)
        except ValueError as error:  # ConfigError is one
            raise _damaged(directory, manifest, f"its model description is wrong: {error}") from None
        wanted = {
            name: record
            for name, record in manifest.files.items()
            if (name not in manifest.spare or (directory / name).exists())
            and not (compiling and is_compiled_here(name))
        }
        try:
            check_files(directory, wanted, lambda problem: _damaged(directory, manifest, problem), is_signed)
        except OSError as error:
            raise _damaged(directory, manifest, f"{error.filename} cannot be read: {error.strerror}") from None
        if strange := unlisted(directory, manifest.files):
            raise _damaged(directory, manifest, f"{', '.join(strange)} is there, but not in {MANIFEST_FILE}")
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
    key: SecretKey | None = None,
) -> Manifest:
    """Writes `bundle.json` again, for files that were compiled where the bundle runs, or for a calibration.

    Args:
        directory: of the bundle.
        manifest: as it was.
        names: of the new files, which are hashed; records of files that are gone are dropped.
        tensorrt: new content of the field; None for what it was.
        spare: new content of the field; None for what it was.
        choices: new content of the field; None for what it was.
        key: to sign the bundle with; without one it has no signature any more.

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
    return _write(directory, amended, key)


def is_compiled_here(name: str) -> bool:
    """Tells whether a file is made where the bundle runs, by `engines/compile.py`."""
    return name == TIMING_CACHE_FILE or name.endswith(engine_file(""))


def _write(directory: Path, manifest: Manifest, key: SecretKey | None = None) -> Manifest:
    manifest = replace(manifest, seal=seal_of(asdict(manifest)))
    replace_manifest(directory, (json.dumps(asdict(manifest), indent=2) + "\n").encode(), key)
    return manifest


def foreign_files(directory: Path) -> list[str]:
    """Names in a bundle's directory, or in a folder of candidates, that are not theirs."""
    try:
        if candidates := read_candidates(directory):
            known = {CANDIDATES_FILE, CHECK_FILE, CHOICE_REPORT, *candidates.names}
            return sorted(path.name for path in directory.iterdir() if path.name not in known)
        files = read_json_file(directory / MANIFEST_FILE)[0]["files"]
        known = {*files, *UNRECORDED}
    except (OSError, ValueError, KeyError, TypeError, CandidatesError):
        return []  # a damaged bundle: there is nothing to compare with
    return sorted(path.name for path in directory.iterdir() if path.name not in known and not is_leftover(path.name))


def is_bundle(directory: Path) -> bool:
    """Tells whether a directory holds a finished bundle, or candidates for one."""
    return (directory / MANIFEST_FILE).is_file() or (directory / CANDIDATES_FILE).is_file()


def _read_manifest(directory: Path, trust: Trust) -> tuple[Manifest, bool]:
    """Returns a bundle's manifest, and whether a trusted key has signed it."""
    build = command("export/build_engines.py", "--model", "DIR", "--target", "host", "--out", directory)
    path = directory / MANIFEST_FILE
    if not directory.is_dir():
        left = "".join(f". There, {one}" for one in leftovers(directory.absolute().parent))
        raise BundleError(f"there is no engine bundle at {directory}. Build one: {build}{left}")
    if not path.is_file():
        raise BundleError(f"{directory} is no finished engine bundle: {MANIFEST_FILE} is missing. Build it: {build}")
    is_signed = False
    try:
        raw, content = read_json_file(path)
        is_signed = require_trusted(directory, content, trust)
        if not isinstance(raw, dict):
            raise ValueError("it holds no object")
        version = raw.get("format_version")
        if version == FORMAT_VERSION and raw.get("seal") != seal_of(raw):
            raise ValueError("it was edited")
        if version == FORMAT_VERSION:
            return _typed_manifest(raw), is_signed
    except SignatureError as error:
        raise BundleError(f"{path} is not trusted: {error}. Copy the signed bundle, or leave --trust away") from None
    except (OSError, ValueError) as error:
        detail = (str(error) or type(error).__name__).splitlines()[0]
        raise BundleError(f"{path} cannot be read ({detail}). Copy the bundle again or build it: {build}") from None
    rebuild = str(raw.get("command"))
    raise BundleError(
        f"{directory} has bundle format {ascii(version)[:20]}, this version reads {FORMAT_VERSION}. Build it again: "
        f"{localized(rebuild if is_build_command(rebuild) else build)}"
    )


def _typed_manifest(raw: dict[str, Any]) -> Manifest:
    """Returns a manifest whose fields have their types.

    Raises:
        ValueError: one has another; says which.
    """
    manifest = typed(Manifest, raw)
    if not is_build_command(manifest.command):
        raise ValueError("its command is not one that builds a bundle")
    return replace(manifest, forms=with_forms(raw).get("forms", {}))


def _damaged(directory: Path, manifest: Manifest, problem: str) -> BundleError:
    return BundleError(
        f"the bundle {directory} is damaged: {problem}. Copy it again from where it was built, or build it again: "
        f"{localized(manifest.command)}"
    )
