"""ONNX Runtime's QNN execution provider: opening graphs on a Hexagon NPU, or on its simulator where there is none.

https://github.com/onnxruntime/onnxruntime-qnn. The provider is a library of its own that is registered with ONNX
Runtime; named in `providers=[...]` it would be passed over, and the CPU taken, without a word.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mobilevlm.errors import UserError

from .socs import Soc

if TYPE_CHECKING:
    import onnxruntime as ort

PROVIDER = "QNNExecutionProvider"
PACKAGE = "onnxruntime-qnn"
INSTALL = f"pip install 'mobilevlm[snapdragon]' (in a clone: pip install {PACKAGE}), with Python 3.11 or newer"
# A graph's inputs and outputs are floats, or the cache's quantised values; the NPU converts them.
OPTIONS = {"backend_type": "htp", "offload_graph_io_quantization": "0"}
RUNNING = {"htp_performance_mode": "burst"}


def require_package() -> None:
    """Checks that the provider is there.

    Raises:
        UserError: the provider is not installed.
    """
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        raise UserError(f"the Snapdragon NPU needs the package {PACKAGE}, which is not installed: {INSTALL}")


def versions() -> dict[str, str]:
    """Returns the versions of the provider and of the QAIRT (Qualcomm's SDK) in it: context binaries depend on both."""
    require_package()
    import onnxruntime_qnn
    from onnxruntime_qnn.build_and_package_info import qnn_version

    return {PACKAGE: onnxruntime_qnn.__version__, "qairt": qnn_version}


def open_graph(path: Path, entries: Mapping[str, str], options: Mapping[str, str]) -> ort.InferenceSession:
    """Opens a graph on the NPU; no operator is left to the CPU.

    Args:
        path: of the ONNX file, one of operators or one that names a context binary.
        entries: of the session's configuration.
        options: of the provider, beside `OPTIONS`.

    Raises:
        UserError: the provider is missing or finds no NPU.
        Exception: ONNX Runtime's own, when it refuses the graph.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    for key, value in {"session.disable_cpu_ep_fallback": "1", **entries}.items():
        settings.add_session_config_entry(key, value)
    with _prints_aside():
        settings.add_provider_for_devices(_devices(), {**OPTIONS, **options})
        return ort.InferenceSession(str(path), settings)


@contextlib.contextmanager
def _prints_aside() -> Iterator[None]:
    """Sends to stderr what the simulator prints on stdout, where answers belong."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def _devices() -> list[Any]:
    """Returns the provider's devices: an NPU, or the simulator on a machine without one."""
    require_package()
    import onnxruntime as ort
    import onnxruntime_qnn

    try:
        ort.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    except Exception as error:
        raise UserError(
            f"{PACKAGE} {onnxruntime_qnn.__version__} does not go with ONNX Runtime {ort.__version__} here ({error}): "
            f"pip install --upgrade onnxruntime {PACKAGE}"
        ) from None
    found = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    if not found:
        raise UserError(
            f"{PACKAGE} {onnxruntime_qnn.__version__} finds neither a Hexagon NPU nor its simulator on this machine: "
            "it runs on Snapdragon (Linux, Windows) and on x86-64 Linux. For a CPU: --target snapdragon-cpu"
        )
    # The same NPU may be listed with a GPU beside it; the backend is chosen by its option.
    return found[:1]


def is_simulated() -> bool:
    """Tells whether the provider simulates an NPU here; a simulator cannot load binaries whose graphs share weights."""
    return platform.machine().lower() in ("x86_64", "amd64")


def compile_options(soc: Soc) -> dict[str, str]:
    """Provider options for compiling a context binary."""
    return {"soc_model": str(soc.model), "htp_arch": str(soc.htp), "htp_graph_finalization_optimization_mode": "3"}
