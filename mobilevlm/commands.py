"""Command lines: the names they have in a clone and where installed, one-line errors, exit statuses, Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import UserError

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
    that may not be read); 130 after Ctrl-C; a traceback and 1 for anything else, which is our bug.

    Args:
        parser: of the command line.
        work: what the command does with the parsed options.
        arguments: the command line; None for that of the process.
    """
    _prepare_process()
    if parser.description:
        parser.description = localized(parser.description)
    if not is_clone():
        parser.prog = Path(sys.argv[0]).name
    try:
        work(parser.parse_args(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
    except UserError as error:
        sys.exit(_fail(parser.prog, str(error)))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno is None:
            raise
        problem = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        sys.exit(_fail(parser.prog, f"{problem}: {error.filename or 'while writing'}"))


def _prepare_process() -> None:
    """Set what happens on `kill`, and to characters that a terminal cannot show."""
    # `kill` unwinds like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # An answer may hold any character; a terminal that cannot show one gets a `?` instead of a traceback. What is typed
    # in another encoding than it says is refused later, not asked with a U+FFFD in it.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if hasattr(stream, "reconfigure"):  # not when the caller closed or replaced it
            stream.reconfigure(errors=errors)
    if sys.stderr is None:  # closed: what is meant for it would go to stdout
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _fail(prog: str, message: str) -> int:
    """Print a message in one line; return the exit status."""
    with contextlib.suppress(OSError):  # stderr on a full disk, or nobody reads it
        print(f"{prog}: {message}", file=sys.stderr)
    return 2
