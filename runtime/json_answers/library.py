"""llguidance, which is imported when an answer has to follow a schema and not before."""

from __future__ import annotations

from typing import Any

from mobilevlm.errors import UserError


def llguidance() -> Any:
    """Imports the library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise UserError(f"answers in JSON need llguidance ({error}): pip install 'mobilevlm[json]'") from None
    return llguidance
