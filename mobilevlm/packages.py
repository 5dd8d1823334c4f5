"""Packages that some commands need beyond a device install, and the memory that loading PyTorch takes."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import UserError
from .refusals import require_address_space

# PyTorch 2.13 with transformers maps 0.7 GB when imported. With less, C++ libraries end the process without a word.
PYTORCH_BYTES = 10**9


def require(what: str, *packages: str, extra: str = "eval") -> None:
    """Refuse to begin where packages are missing, or where there is no memory to load PyTorch.

    Args:
        what: what needs them, for the message.
        *packages: by the names they are imported by.
        extra: of this project, whose installation brings them.

    Raises:
        UserError: a package is not installed, and the message has the command that brings it; or `torch` is wanted and
            this process may not have the memory (`ulimit -v`).
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs {', '.join(missing)}: pip install 'mobilevlm[{extra}]' (in a clone: bash run.sh demo)"
        )
    if "torch" in packages:
        require_address_space(PYTORCH_BYTES, "loading PyTorch")
