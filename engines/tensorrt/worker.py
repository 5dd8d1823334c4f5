"""Builds one engine in a process of its own, started by `subprocesses.py`, which frees all memory when it ends.

    python engines/tensorrt/worker.py DIR decoder.0
    python engines/tensorrt/worker.py DIR decoder.0 SM75 SM86     for these GPUs, by TensorRT-RTX

The progress bar goes to stderr, an error message to stdout. What TensorRT and the driver print by themselves is kept:
the reason of a failure may be nowhere else.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import ctypes
import os
import signal
import socket
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from mobilevlm.atomic_file import write_whole
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import TIMING_CACHE_FILE, engine_file, onnx_file
from mobilevlm.engines.tensorrt.builder import BuildError, EngineBuilder
from mobilevlm.engines.tensorrt.devices import ThisGpu
from mobilevlm.engines.tensorrt.library import RTX, library_of
from mobilevlm.engines.tensorrt.named_gpus import NamedGpus
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from mobilevlm.engines.tensorrt.progress import make_progress
from mobilevlm.engines.tensorrt.record import compile_command
from mobilevlm.engines.tensorrt.subprocesses import INTERRUPTED
from mobilevlm.errors import UserError
from mobilevlm.refusals import refusal_of

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def build_part(bundle: Bundle, part: str, builder: EngineBuilder) -> None:
    """Builds the engine of a graph and writes it beside the graph.

    Args:
        bundle: with the graph.
        part: `vision`, or a graph of the decoder.
        builder: builds the engine.

    Raises:
        BuildError: TensorRT refuses the graph, or memory is short.
        KeyboardInterrupt: it was cancelled.
    """
    engine = builder.build_file(bundle.path(onnx_file(part)), bundle_profiles(bundle, part))
    write_whole(bundle.path(engine_file(part)), engine)


@contextmanager
def _cancelled_by_signals(cancel: Callable[[], None]) -> Iterator[None]:
    """Passes Ctrl-C to the builder at once: Python's own handlers wait until TensorRT returns, minutes later."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    wanted = (signal.SIGINT, signal.SIGTERM)
    kept = {number: signal.signal(number, lambda *_: None) for number in wanted}
    descriptor = signal.set_wakeup_fd(writer.fileno())

    def watch() -> None:
        while number := reader.recv(1):
            if number[0] in wanted:
                cancel()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in kept.items():
            signal.signal(number, handler)
        writer.close()
        thread.join()
        reader.close()


def _work(words: list[str], terminal: TextIO) -> None:
    directory, part, *capabilities = words
    bundle = Bundle.open(directory, compiling=True)
    is_rtx = library_of(bundle.manifest.target) is RTX
    devices = NamedGpus(capabilities) if is_rtx else ThisGpu(bundle.path(TIMING_CACHE_FILE))
    builder = EngineBuilder(devices, compile_command(bundle.directory, capabilities))
    builder.progress = make_progress(builder.trt, part, terminal)
    with _cancelled_by_signals(builder.progress.cancel):
        build_part(bundle, part, builder)


def _end_with_parent() -> None:
    """Ends this process when the command is killed: its next run would build, and write, the same engine."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(words: list[str]) -> int:
    """Runs the command line; returns the exit status: 0, 2 with a message on stdout, or 130 when interrupted."""
    _end_with_parent()
    try:
        printed = tempfile.TemporaryFile()
    except OSError as error:  # no folder for it
        print(refusal_of(error))
        return 2
    with printed, os.fdopen(os.dup(2), "w") as terminal, os.fdopen(os.dup(1), "w") as out:
        for descriptor in (1, 2):
            os.dup2(printed.fileno(), descriptor)
        try:
            _work(words, terminal)
            return 0
        except UserError as error:
            printed.seek(0)
            said = printed.read().decode(errors="replace").splitlines()
            print(error.with_lines(said) if isinstance(error, BuildError) else error, file=out)
            return 2
        except KeyboardInterrupt:
            return INTERRUPTED
        except BaseException as error:
            sentence = refusal_of(error)
            if sentence is None:  # our own bug: its traceback belongs on the terminal
                traceback.print_exc(file=terminal)
                raise
            print(sentence, file=out)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
