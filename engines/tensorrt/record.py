"""What a bundle notes about its TensorRT engines, in `Manifest.tensorrt`, and whether they may be used here.

machine: version of TensorRT, compute capability of the GPU, release of a Jetson's system: what engines are bound to;
    of TensorRT-RTX the capabilities that were named, with commas, nothing for every GPU from SM80 on
engines: by part, what each was made from and the seconds it took
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bundle import Bundle, BundleError, Manifest
from ..stages import VISION, engine_file, onnx_file, weights_file
from .builder import SETTINGS
from .library import RTX, library_of

# The least compute capability, times ten, of engines that were made for none in particular.
# https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
PORTABLE_FROM = 80


def compile_command(directory: Path, capabilities: Sequence[str] = ()) -> str:
    """What makes the engines of a bundle on the machine at hand."""
    named = f" --capability {' '.join(capabilities)}" if capabilities else ""
    return f"python engines/compile.py {directory}{named}"


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
    library, machine = library_of(bundle.manifest.target), record["machine"]
    if machine["version"] != version:
        raise BundleError(
            f"the engines of {bundle.directory} were made with {library.name} {machine['version']}, here is {version}. "
            f"They do not move: make them here with {command}"
        )
    if library is RTX and not runs_on(machine["capability"], capability):
        made_for = machine["capability"] or f"SM{PORTABLE_FROM} and newer"
        raise BundleError(
            f"the engines of {bundle.directory} were made for {made_for}, this GPU is {_name(capability)}: make them "
            f"with {compile_command(bundle.directory, [_name(capability)])}"
        )
    if library is not RTX and machine["capability"] != capability:
        raise BundleError(
            f"the engines of {bundle.directory} were made with a GPU of compute capability {machine['capability']}, "
            f"here is {capability}. They do not move: make them here with {command}"
        )


def runs_on(named: str, capability: str) -> bool:
    """Whether engines of TensorRT-RTX run on a GPU.

    Args:
        named: capabilities that they were made for, see above.
        capability: the GPU's, such as `8.6`.
    """
    if named:
        return _name(capability) in named.split(",")
    major, minor = map(int, capability.split("."))
    return 10 * major + minor >= PORTABLE_FROM


def _name(capability: str) -> str:
    """TensorRT-RTX's name: SM86 of 8.6."""
    return f"SM{capability.replace('.', '')}"
