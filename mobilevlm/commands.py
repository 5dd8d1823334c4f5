"""What every command line of this project does alike: one-line errors, exit statuses, Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence

from .errors import UserError


def run_command(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None = None
) -> None:
    """Parse the command line, do the work and exit.

    Status 0 when done; 2 and one line on stderr for a `UserError` or what the system refuses (a full disk, a file that
    may not be read); 130 after Ctrl-C; a traceback and 1 for anything else, which is our bug.
    """
    # `kill` unwinds like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # An answer may hold any character; a terminal that cannot show one gets a `?` instead of a traceback.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not when the caller closed or replaced it
            stream.reconfigure(errors="replace")
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


def _fail(prog: str, message: str) -> int:
    print(f"{prog}: {message}", file=sys.stderr)
    return 2
