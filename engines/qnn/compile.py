"""Compiles graphs into QNN context binaries: anywhere, without a phone or an account.

Each group has a process of its own, in which the same graph always gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file, as `compile_group` does: the repository root belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mobilevlm.engines.machine import peak_rss_bytes
from mobilevlm.engines.qnn.provider import compile_options, open_graph
from mobilevlm.engines.qnn.socs import Soc, find_soc
from mobilevlm.engines.stages import npu_file
from mobilevlm.errors import UserError

TRACE_FILE = "qnn_op_trace.json"


@dataclass(frozen=True)
class Compiled:
    """Figures of a compiled graph.

    Attributes:
        name: the graph's.
        seconds: duration.
        peak_rss_bytes: peak memory of the process so far.
        nodes: operators in the graph.
        npu_nodes: operators that the NPU runs.
    """

    name: str
    seconds: float
    peak_rss_bytes: int
    nodes: int
    npu_nodes: int


def compile_group(graphs: Sequence[Path], soc: Soc) -> list[Compiled]:
    """Compiles graphs that have the same weights; into one binary, where the architecture can.

    Args:
        graphs: ONNX files of one directory, named as `stages.onnx_file` does; each gets a file beside it, which names
            the binary there.
        soc: the system to compile for.

    Raises:
        UserError: the NPU does not take a graph whole: names what it refused; or memory ran out.
    """
    # By their names alone, because a path would be among the bytes.
    command = [sys.executable, str(Path(__file__).resolve()), soc.name, *(path.name for path in graphs)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=graphs[0].parent)
    if done.returncode:
        raise UserError(_problem(done, soc, graphs))
    return [Compiled(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def _problem(done: subprocess.CompletedProcess[str], soc: Soc, graphs: Sequence[Path]) -> str:
    names = ", ".join(path.stem for path in graphs)
    if done.returncode == -9:
        return (
            f"compiling {names} for {soc} was killed, most likely for want of memory: close other programs, or leave "
            "it to another machine with --no-compile"
        )
    lines = done.stderr.strip().splitlines()
    return f"{names} could not be compiled for {soc}: {lines[-1] if lines else f'exit status {done.returncode}'}"


def _compile(soc: Soc, graphs: Sequence[Path]) -> list[Compiled]:
    found, sessions = [], []
    for path in graphs:
        start, out = time.perf_counter(), path.with_name(npu_file(path.stem))
        out.unlink(missing_ok=True)  # it would be refused, not replaced
        entries = {
            "ep.context_enable": "1",
            "ep.context_embed_mode": "0",
            "ep.context_file_path": str(out),
        }
        if soc.shares_weights and len(graphs) > 1:
            entries["ep.share_ep_contexts"] = "1"
            if path == graphs[-1]:
                entries["ep.stop_share_ep_contexts"] = "1"
        with tempfile.TemporaryDirectory() as trace:
            tracing = {"enable_framework_op_trace": "1", "framework_op_trace_dir": trace}
            try:
                # Kept open: graphs that share weights are written with the last of them.
                sessions.append(open_graph(path, entries, compile_options(soc) | tracing))
            except Exception as error:
                if "onnxruntime" not in type(error).__module__:
                    raise
                raise UserError(f"{path.stem}: {_refused(Path(trace)) or str(error).splitlines()[0]}") from None
            summary = _trace(Path(trace))["summary"]
        seconds = time.perf_counter() - start
        nodes, taken = summary["total_onnx_nodes"], summary["supported_nodes"]
        found.append(Compiled(path.stem, seconds, peak_rss_bytes(), nodes, taken))
    return found


def _trace(directory: Path) -> dict[str, Any]:
    return json.loads((directory / TRACE_FILE).read_text(encoding="utf-8"))


def _refused(directory: Path) -> str:
    """Names the operators that the NPU did not take, from the provider's own trace."""
    try:
        refused = _trace(directory)["unsupported_nodes"]
    except (OSError, ValueError, KeyError):
        return ""
    few = ", ".join(f"{node['op_type']} {node['node_name']} ({node['reason']})" for node in refused[:3])
    return f"the NPU does not take {len(refused)} of its operators: {few}" if refused else ""


def _main() -> None:
    """Runs in the process that `compile_group` starts, with a SoC and graphs of this directory as arguments."""
    name, *graphs = sys.argv[1:]
    # The provider prints on its own account; what is read is ours.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        compiled = _compile(find_soc(name), list(map(Path, graphs)))
    except UserError as error:
        sys.exit(str(error))
    os.write(answer, json.dumps([asdict(entry) for entry in compiled]).encode() + b"\n")


if __name__ == "__main__":
    _main()
