"""Names of files and directories as a checkpoint's JSON has them: whether any system could have such a path."""

from __future__ import annotations

LONGEST_PART = 255  # bytes between two slashes
LONGEST_PATH = 4095


def can_be_path(name: str) -> bool:
    """Whether a path can have this name: no NUL, no lone surrogate, no part that is too long."""
    try:
        content = name.encode()
    except UnicodeEncodeError:
        return False
    return b"\0" not in content and len(content) <= LONGEST_PATH and max(map(len, content.split(b"/"))) <= LONGEST_PART
