"""Folder for files that may be lost, and make the next start quicker."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache(kind: str) -> Path:
    """Returns the user's folder for a kind of file, such as `kernels`; it may not exist yet."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "mobilevlm" / kind
