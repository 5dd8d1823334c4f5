"""What a bundle notes about its TensorRT engines, in `Manifest.tensorrt`, and whether they may be used here.

machine: version of TensorRT, compute capability of the GPU, release of a Jetson's system: what engines are bound to
engines: by part, what each was made from and the seconds it took
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..bundle import Bundle, BundleError, Manifest
from ..stages import VISION, engine_file, onnx_file, weights_file
from .builder import SETTINGS


def compile_command(directory: Path) -> str:
    """What makes the engines of a bundle on the machine at hand."""
    return f"python engines/compile.py {directory}"


def machine_record(version: str, capability: str, system: str) -> dict[str, str]:
    """What engines are bound to."""
    return {"version": version, "capability": capability, "system": system}


def engine_record(manifest: Manifest, part: str) -> dict[str, Any]:
    """What the engine of a part is made from: another one is made when anything of it differs."""
    names = (onnx_file(part), weights_file(part))
    files = {name: manifest.files[name]["sha256"] for name in names if name in manifest.files}
    return {"files": files, "settings": SETTINGS}


def spare_files(manifest: Manifest) -> list[str]:
    """What the machine does without once all engines are made: graphs and their weights."""
    return sorted(name for name in manifest.files if name.endswith((onnx_file(""), weights_file(""))))


def parts(bundle: Bundle) -> list[str]:
    """What a bundle has an engine of.

    Raises:
        BundleError: its graphs are those of another version, which are fed otherwise.
    """
    found = [VISION] * bundle.has_vision + list(bundle.manifest.parts)
    if missing := [onnx_file(part) for part in found if onnx_file(part) not in bundle.manifest.files]:
        raise BundleError(
            f"{bundle.directory} was built by another version, which wrote no {missing[0]}. Build it again: "
            f"{bundle.manifest.command}"
        )
    return found


def require_usable(bundle: Bundle, version: str, capability: str) -> None:
    """Compare a bundle's engines with the machine they shall run on.

    Raises:
        BundleError: some are missing, or were made elsewhere; names the command that makes them.
    """
    record, command = bundle.manifest.tensorrt, compile_command(bundle.directory)
    missing = [engine_file(part) for part in parts(bundle) if part not in record.get("engines", {})]
    if missing:
        raise BundleError(f"{bundle.directory} has no {', '.join(missing)} yet: make it here with {command}")
    for what, here in (("version", version), ("capability", capability)):
        there = record["machine"][what]
        if there != here:
            name = "TensorRT" if what == "version" else "a GPU of compute capability"
            raise BundleError(
                f"the engines of {bundle.directory} were made with {name} {there}, here is {here}. They do not move: "
                f"make them here with {command}"
            )
