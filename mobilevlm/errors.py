"""The error that a command reports in one line instead of a traceback, and paths as people type them."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """A mistake that the user can correct: commands print it and exit with 2. Any other error is a bug (1)."""


def user_path(text: str | Path) -> Path:
    """Path as typed, with `~` expanded.

    Raises:
        UserError: there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text} names a user this machine does not have") from None
