"""Command lines: the names they have in a clone and where installed, one-line errors, exit statuses, Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from .errors import UserError
from .refusals import is_no_memory, refusal_of

# Scripts of a clone, and the console scripts that pip installs for them (pyproject.toml).
CONSOLE_SCRIPTS = {
    "engines/compile.py": "mobilevlm-compile",
    "engines/judge.py": "mobilevlm-judge",
    "eval/calibrate_choices.py": "mobilevlm-calibrate-choices",
    "eval/compare.py": "mobilevlm-eval-compare",
    "eval/questions.py": "mobilevlm-eval-questions",
    "eval/run.py": "mobilevlm-eval",
    "export/build_engines.py": "mobilevlm-build-engines",
    "export/deploy.py": "mobilevlm-deploy",
    "export/phone_kit.py": "mobilevlm-phone-kit",
    "jetson/benchmark.py": "mobilevlm-jetson-benchmark",
    "jetson/compare.py": "mobilevlm-jetson-compare",
    "jetson/doctor.py": "mobilevlm-jetson-doctor",
    "jetson/extlinux.py": "mobilevlm-jetson-extlinux",
    "jetson/limits.py": "mobilevlm-jetson-limits",
    "runtime/answer_times.py": "mobilevlm-answer-times",
    "runtime/benchmark.py": "mobilevlm-benchmark",
    "runtime/chat.py": "mobilevlm-chat",
    "runtime/choose.py": "mobilevlm-choose",
    "runtime/serve.py": "mobilevlm-serve",
    "runtime/serve_benchmark.py": "mobilevlm-serve-benchmark",
    "runtime/smoke.py": "mobilevlm-smoke",
    "runtime/verify.py": "mobilevlm-verify",
    "runtime/watch.py": "mobilevlm-watch",
    "train/finetune.py": "mobilevlm-finetune",
    "train/language_pretrain.py": "mobilevlm-language-pretrain",
    "train/merge_lora.py": "mobilevlm-merge-lora",
    "train/prepare_data.py": "mobilevlm-prepare-data",
    "train/train_tokenizer.py": "mobilevlm-train-tokenizer",
    "train/vision_pretrain.py": "mobilevlm-vision-pretrain",
}
_CLONE = Path(__file__).resolve().parents[1]
_SCRIPT = re.compile(r"python (\w+/\w+\.py)\b")


def is_clone() -> bool:
    """Whether this package runs from a clone of the repository: its scripts are files beside it."""
    return (_CLONE / "pyproject.toml").is_file()


def command(script: str, *arguments: object) -> str:
    """Command line that runs a script, in the form that the reader has: a file in a clone, or a console script.

    Args:
        script: its path in a clone, a key of `CONSOLE_SCRIPTS`.
        arguments: quoted for a shell where they need it.
    """
    words = ["python", script] if is_clone() else [CONSOLE_SCRIPTS[script]]
    return " ".join([*words, *(shlex.quote(str(word)) for word in arguments)])


def localized(text: str) -> str:
    """Text in which each `python FOLDER/SCRIPT.py` of a clone has the form that the reader has.

    Args:
        text: help with examples, or a command line that was recorded in a bundle.
    """
    if is_clone():
        return text
    return _SCRIPT.sub(lambda found: CONSOLE_SCRIPTS.get(found[1], found[0]), text)


def run_command(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None = None
) -> None:
    """Parse the command line, do the work and exit.

    Its help shows examples in the form that the reader has (`localized`).

    Exit status 0 when done; 2 and one line on stderr for a `UserError` or what the system refuses (a full disk, a file
    that may not be read, memory: `refusals.py`); 130 after Ctrl-C; 141 when the reader of the output went away; a
    traceback and 1 for anything else, which is our bug.

    Args:
        parser: of the command line.
        work: what the command does with the parsed options.
        arguments: the command line; None for that of the process.
    """
    if arguments is None:
        _read_words_as_utf_8()
    _prepare_process()
    if parser.description:
        parser.description = localized(parser.description)
    if not is_clone():
        parser.prog = Path(sys.argv[0]).name
    try:
        _work_and_flush(parser, work, arguments)
    except UserError as error:
        _end(error, _fail(parser.prog, str(error)))
    except KeyboardInterrupt:
        _tell("\ninterrupted")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        _drop_output()
        sys.exit(141)
    except Exception as error:
        sentence = refusal_of(error)
        if sentence is None:
            raise
        _end(error, _fail(parser.prog, sentence))


def _end(error: Exception, status: int) -> NoReturn:
    """Exits; at once where memory ran out: threads that packages could not start have crashed while Python ended.

    Args:
        error: that was told.
        status: of the exit.
    """
    if is_no_memory(error):
        os._exit(status)
    sys.exit(status)


def _work_and_flush(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None
) -> None:
    """Does the work and writes out what was printed, where the reader that went away can still be told apart."""
    work(_parsed(parser, arguments))
    sys.stdout.flush()


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parses the command line; --help is printed here, because argparse says nothing of output that fails."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return parser.parse_args(arguments)
    except SystemExit:
        print(said.getvalue(), end="", flush=True)
        raise


def _read_words_as_utf_8() -> None:
    """Starts this command anew in UTF-8 where the locale has no such encoding, as after `LC_ALL=C` with PYTHONUTF8=0.

    Names of files, in arguments and in data, are UTF-8 on today's systems; packages cannot open what another encoding
    made of them. What is printed keeps the encoding of the terminal.
    """
    if sys.getfilesystemencoding().lower() in ("utf-8", "utf8") or os.name != "posix" or not sys.executable:
        return
    said = (getattr(stream, "encoding", None) for stream in (sys.stdout, sys.stderr, sys.stdin))
    terminal = next(filter(None, said), "ascii")
    environment = {"PYTHONIOENCODING": terminal} | os.environ | {"PYTHONUTF8": "1"}
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)


def _prepare_process() -> None:
    """Sets what happens on `kill`, to standard streams that are closed, and to characters a terminal cannot show."""
    # `kill` unwinds like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: the next file opened would take its number
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # and what is printed there
    # An answer may hold any character; a terminal that cannot show one gets a `?` instead of a traceback. What is typed
    # in another encoding than it says is refused later, not asked with a U+FFFD in it.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if hasattr(stream, "reconfigure"):  # not when the caller replaced it
            stream.reconfigure(errors=errors)


def _drop_output() -> None:
    """Throws away what cannot be written: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(text: str) -> None:
    """Prints a line on stderr, if that still takes one."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _fail(prog: str, message: str) -> int:
    """Prints a message in one line; returns the exit status."""
    _drop_output()
    _tell(f"{prog}: {message}")
    return 2
