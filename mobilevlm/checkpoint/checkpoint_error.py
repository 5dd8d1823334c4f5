"""The error of a checkpoint whose files cannot be used."""

from __future__ import annotations

from ..errors import UserError


class CheckpointError(UserError):
    """A checkpoint that cannot be read as published; the message names every file or key that is wrong."""
