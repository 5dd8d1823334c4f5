"""Names of NVIDIA's own Python bindings of TensorRT, version by version: what `names.json` is made from.

    python -m tests.tensorrt_double.real_names

fetches the wheels of all versions (100 MB), and writes the table anew. A wheel has the bindings and not the libraries,
which need no GPU to be imported over empty stand-ins: that takes Linux and a C compiler.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import multiprocessing
import re
import sys
import tempfile
import types
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from .module import CLASSES, SUBCLASSED
from .names import TABLE, number
from .wheels import Unavailable, done, install

PACKAGE = "tensorrt_cu12_bindings"
# The last release of each minor version whose wheels are published.
WHEELS = (
    *("10.3.0", "10.4.0", "10.5.0", "10.6.0.post1", "10.7.0.post1", "10.8.0.43", "10.9.0.34", "10.10.0.31"),
    *("10.11.0.33", "10.12.0.36", "10.13.3.9.post1", "10.14.1.48.post1", "10.15.1.29", "10.16.1.11"),
    *("11.0.0.114", "11.1.0.106", "11.2.1.2", "11.3.0.99", "11.4.0.106"),
)
JETPACKS = ("10.3.0", "10.16.1.11", "11.4.0.106")  # the nearest to what systems of a Jetson have
LIBRARIES = ("nvinfer", "nvonnxparser", "nvinfer_plugin")
# What the bindings take from these. Null pointers do for makers: nothing is made here.
FUNCTIONS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getNvOnnxParserVersion"),
    *("getBuilderPluginRegistry", "getPluginRegistry", "initLibNvInferPlugins"),
)
ENUMS = (
    *("ILogger.Severity", "ErrorCode", "ExecutionContextAllocationStrategy", "TensorLocation", "TensorIOMode"),
    *("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "ProfilingVerbosity", "PreviewFeature"),
    *("HardwareCompatibilityLevel", "DataType", "LayerInformationFormat", "OnnxParserFlag"),
)
OVERLOAD = re.compile(r"^(?:\d+\. )?\w+\(self: [^,)]*(?P<rest>.*)\) -> ", re.MULTILINE)
ARGUMENT = re.compile(r", (\w+): ")


def fetch(version: str, folder: Path) -> Path:
    """Install a wheel, unless the folder has it, and compile the stand-ins beside it.

    Raises:
        Unavailable: there is no network, no wheel for this system and Python, or no C compiler.
    """
    if not sys.platform.startswith("linux"):
        raise Unavailable("the stand-ins for the libraries are compiled on Linux alone")

    def compile_stand_ins(made: Path) -> None:
        source = made / "empty.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
        for library in LIBRARIES:
            name = f"lib{library}.so.{version.partition('.')[0]}"
            done(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(made / name), str(source)])

    return install([f"{PACKAGE}=={version}"], folder / version, compile_stand_ins)


def describe(site: Path) -> dict[str, Any]:
    """Names of the bindings in a folder that `fetch` made, in a process that has imported no others.

    Returns:
        classes: members by class, a method with the names of its arguments, anything else with None
        enums: values of the members by enumeration
        module: names of the module itself
    """
    for library in sorted(site.glob("lib*.so.*"), key=lambda path: "nvinfer.so" not in path.name):
        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(site))
    trt = importlib.import_module("tensorrt_bindings")
    kinds = {name: getattr(trt, name) for name in sorted((*CLASSES, *SUBCLASSED))}
    enums = {name: attrgetter(name)(trt) for name in ENUMS}
    return {
        "classes": {
            name: {one: _arguments(getattr(kind, one)) for one in _public(kind)} for name, kind in kinds.items()
        },
        "enums": {name: {one: int(value) for one, value in kind.__members__.items()} for name, kind in enums.items()},
        "module": [name for name in _public(trt) if not isinstance(getattr(trt, name), types.ModuleType)],
    }


def _public(of: Any) -> list[str]:
    return [name for name in dir(of) if not name.startswith("_")]


def _arguments(member: Any) -> list[list[str]] | None:
    """Of a method, for each overload, read from what pybind11 writes into its docstring."""
    if not callable(member) or not (found := OVERLOAD.findall(member.__doc__ or "")):
        return None
    return [ARGUMENT.findall(rest) for rest in found]


def described(versions: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """`describe` of some versions, each in a process of its own.

    Raises:
        Unavailable: one of them cannot be had.
    """
    sites = [fetch(version, folder) for version in versions]
    with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
        return dict(zip(versions, pool.map(describe, sites, chunksize=1), strict=True))


def table(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """`names.json` of descriptions by version, oldest first."""
    numbers = [".".join(map(str, number(version))) for version in found]
    every = list(found.values())
    return {
        "about": f"Made by {__spec__.name} from {PACKAGE} {', '.join(found)}. "
        "`10.3+` is from there on, `10.3..10.16` until there; of a member of an enumeration, with its value.",
        "classes": {kind: _spans([one["classes"][kind] for one in every], numbers) for kind in every[-1]["classes"]},
        "enums": {
            kind: {
                member: _values([one["enums"][kind].get(member) for one in every], numbers)
                for member in _ordered([one["enums"][kind] for one in every])
            }
            for kind in every[-1]["enums"]
        },
        "module": _spans([one["module"] for one in every], numbers),
    }


def _ordered(of: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(name for one in of for name in one))


def _spans(of: Sequence[Any], numbers: Sequence[str]) -> dict[str, str]:
    return {name: _span([name in one for one in of], numbers) for name in _ordered(of)}


def _values(values: Sequence[int | None], numbers: Sequence[str]) -> dict[str, int]:
    return {
        _span([value == one for value in values], numbers): one
        for one in dict.fromkeys(value for value in values if value is not None)
    }


def _span(there: Sequence[bool], numbers: Sequence[str]) -> str:
    first, last = there.index(True), len(there) - 1 - there[::-1].index(True)
    if not all(there[first : last + 1]):
        raise ValueError(f"a name went and came back: {there}")
    if last == len(there) - 1:
        return f"{numbers[first]}+"
    return numbers[first] if first == last else f"{numbers[first]}..{numbers[last]}"


def written(names: dict[str, Any]) -> str:
    """The file's text, a line for each class and enumeration."""
    parts = [f' "about": {json.dumps(names["about"])}']
    for part in ("classes", "enums"):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in names[part].items())
        parts.append(f' "{part}": {{\n{lines}\n }}')
    parts.append(f' "module": {json.dumps(names["module"])}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        TABLE.write_text(written(table(described(WHEELS, Path(temporary)))))
