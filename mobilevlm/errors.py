"""The one kind of error a command reports in a line instead of a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """Something the person at the keyboard can mend: commands print it and exit with 2. Anything else is a bug (1)."""
