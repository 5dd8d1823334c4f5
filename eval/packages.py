"""Packages that evaluation needs beyond a device install."""

from __future__ import annotations

from importlib.util import find_spec

from mobilevlm.errors import UserError


def require(what: str, *packages: str, extra: str = "eval") -> None:
    """Refuse to begin where packages are missing.

    Args:
        what: what needs them, for the message.
        *packages: by the names they are imported by.
        extra: of this project, whose installation brings them.

    Raises:
        UserError: a package is not installed; the message has the command that brings it.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(f'{what} needs {", ".join(missing)}: pip install "mobilevlm[{extra}]"')
