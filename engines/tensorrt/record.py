"""Record of a bundle's TensorRT engines, `Manifest.tensorrt`, and whether they may be used on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobilevlm.commands import command, localized

from ..bundle import Bundle, BundleError
from ..manifest import Ingredients, Manifest, TensorrtEntry
from ..stages import VISION, engine_file, onnx_file, weights_file
from .builder import SETTINGS
from .library import RTX, library_of

# The least compute capability, times ten, of engines that were made for none in particular.
# https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
PORTABLE_FROM = 80


def compile_command(directory: Path, capabilities: Sequence[str] = ()) -> str:
    """Returns the command that builds a bundle's engines on the machine at hand.

    Args:
        directory: of the bundle.
        capabilities: compute capabilities to build for with TensorRT-RTX, such as SM86; none for all from SM80 on.
    """
    return command("engines/compile.py", directory, *(["--capability", *capabilities] if capabilities else []))


def machine_record(version: str, capability: str, system: str) -> dict[str, str]:
    """Returns what engines are bound to, for `Manifest.tensorrt`.

    Args:
        version: of the library that builds them.
        capability: compute capability of the GPU; for TensorRT-RTX the named ones, with commas.
        system: release of a Jetson's system; empty elsewhere.
    """
    return {"version": version, "capability": capability, "system": system}


def engine_record(manifest: Manifest, part: str) -> Ingredients:
    """Returns what the engine of a graph would be made from now: it is built again when this changes.

    Args:
        manifest: of the bundle.
        part: the graph.
    """
    names = (onnx_file(part), weights_file(part))
    files = {name: manifest.files[name]["sha256"] for name in names if name in manifest.files}
    return {"files": files, "settings": SETTINGS}


def noted_ingredients(record: TensorrtEntry, part: str) -> Ingredients | None:
    """Returns what the engine of a graph was made from; None where it was not built yet.

    Args:
        record: `Manifest.tensorrt`.
        part: the graph.
    """
    entry = record.get("engines", {}).get(part)
    return entry["made_from"] if entry else None


def spare_files(manifest: Manifest) -> list[str]:
    """Returns the files that a machine does without once all engines are built: graphs and their weights."""
    return sorted(name for name in manifest.files if name.endswith((onnx_file(""), weights_file(""))))


def parts(bundle: Bundle) -> list[str]:
    """Returns the names of the graphs that a bundle has engines of.

    Raises:
        BundleError: its graphs are those of another version, which are fed otherwise.
    """
    found = [VISION] * bundle.has_vision + list(bundle.manifest.parts)
    if missing := [onnx_file(part) for part in found if onnx_file(part) not in bundle.manifest.files]:
        raise BundleError(
            f"{bundle.directory} was built by another version, which wrote no {missing[0]}. Build it again: "
            f"{localized(bundle.manifest.command)}"
        )
    return found


def require_usable(bundle: Bundle, version: str, capability: str) -> None:
    """Compares a bundle's engines with the machine they shall run on.

    Args:
        bundle: with the engines.
        version: of the TensorRT or TensorRT-RTX on this machine.
        capability: compute capability of its GPU, such as `8.7`.

    Raises:
        BundleError: some are missing, or were made elsewhere; names the command that makes them.
    """
    record, build = bundle.manifest.tensorrt, compile_command(bundle.directory)
    missing = [engine_file(part) for part in parts(bundle) if part not in record.get("engines", {})]
    if missing:
        raise BundleError(f"{bundle.directory} has no {', '.join(missing)} yet: make it here with {build}")
    library, machine = library_of(bundle.manifest.target), record["machine"]
    if machine["version"] != version:
        raise BundleError(
            f"the engines of {bundle.directory} were made with {library.name} {machine['version']}, here is {version}. "
            f"They do not move: make them here with {build}"
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
            f"here is {capability}. They do not move: make them here with {build}"
        )


def runs_on(named: str, capability: str) -> bool:
    """Tells whether engines of TensorRT-RTX run on a GPU.

    Args:
        named: capabilities that they were made for, see above.
        capability: the GPU's, such as `8.6`.
    """
    if named:
        return _name(capability) in named.split(",")
    major, minor = map(int, capability.split("."))
    return 10 * major + minor >= PORTABLE_FROM


def _name(capability: str) -> str:
    """Returns a compute capability in TensorRT-RTX's form: SM86 for 8.6."""
    return f"SM{capability.replace('.', '')}"
