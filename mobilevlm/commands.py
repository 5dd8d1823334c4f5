"""What every command line of this project does alike: one-line errors, exit statuses, Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from collections.abc import Callable, Sequence

from .errors import UserError


def run_command(
    parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None = None
) -> None:
    """Parse the command line, do the work and exit.

    Status 0 when done; 2 and one line on stderr for a `UserError` or a full disk; 130 after Ctrl-C; a traceback and 1
    for anything else, which is our bug.
    """
    # `kill` unwinds like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # An answer may hold any character; a terminal that cannot show one gets a `?` instead of a traceback.
    sys.stdout.reconfigure(errors="replace")
    sys.stderr.reconfigure(errors="replace")
    try:
        work(parser.parse_args(arguments))
    except UserError as error:
        sys.exit(_fail(parser.prog, str(error)))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(_fail(parser.prog, f"the disk is full ({error.filename or 'while writing'}); nothing was left behind"))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        sys.stderr.close()
        sys.exit(141)


def _fail(prog: str, message: str) -> int:
    print(f"{prog}: {message}", file=sys.stderr)
    return 2
