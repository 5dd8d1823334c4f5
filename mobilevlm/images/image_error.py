"""The error of an image that cannot be used."""

from __future__ import annotations

from ..errors import UserError


class ImageError(UserError):
    """An image that cannot be used; the message names it, the problem and the remedy."""
