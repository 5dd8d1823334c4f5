"""The one kind of error a command reports in a line instead of a traceback, and paths as people type them."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """Something the person at the keyboard can mend: commands print it and exit with 2. Anything else is a bug (1)."""


def user_path(text: str | Path) -> Path:
    """A path as typed, with `~` expanded.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text} names a user this machine does not have") from None
