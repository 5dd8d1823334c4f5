"""Starts the processes that build engines, one after another, and reads their results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mobilevlm.errors import UserError

from ..stages import engine_file
from .log import MORE_PIECES
from .record import compile_command

INTERRUPTED = 130
WORKER = Path(__file__).with_name("worker.py")


def build_apart(directory: Path, part: str, capabilities: Sequence[str] = ()) -> None:
    """Builds an engine in a process of its own, with a progress bar on stderr.

    Args:
        directory: of the bundle.
        part: `vision`, or a graph of the decoder.
        capabilities: see `NamedGpus`.

    Raises:
        UserError: it could not be built; says why.
        KeyboardInterrupt: it was interrupted.
    """
    status, said = _run([str(directory), part, *capabilities])
    if status < 0:
        raise UserError(
            f"building {engine_file(part)} was killed by signal {-status}, most likely for want of memory: close other "
            "programs, log out of the desktop (sudo systemctl isolate multi-user.target), add swap on the board's NVMe "
            f"disk, or prepare the bundle with more pieces ({MORE_PIECES}). Engines that are done are kept: "
            f"{compile_command(directory, capabilities)}"
        )
    if status:
        raise UserError(said or f"building {engine_file(part)} ended with status {status}")


def _run(words: list[str]) -> tuple[int, str]:
    """Returns the worker's exit status and its message."""
    process = subprocess.Popen([sys.executable, str(WORKER), *words], stdout=subprocess.PIPE, text=True)
    try:
        said, _ = process.communicate()
    except KeyboardInterrupt:  # the worker gets it, too, and stops at TensorRT's next step
        process.communicate()
        raise
    if process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    return process.returncode, said.strip()
