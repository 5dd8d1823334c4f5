"""Wheels in folders of their own, fetched once and kept, beside what this environment has installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


class Unavailable(Exception):
    """Wheels cannot be had here; the message says why."""


def install(requirements: Sequence[str], folder: Path, finish: Callable[[Path], None] | None = None) -> Path:
    """Install wheels without what they need, unless that was done before.

    Args:
        requirements: as pip takes them, with versions.
        folder: where, with the Python's name behind it.
        finish: called with the folder before it counts as done.

    Returns:
        The folder, to be put on the path.

    Raises:
        Unavailable: there is no network, or no wheel for this system and Python.
    """
    site = folder.with_name(f"{folder.name}-{sys.implementation.cache_tag}")
    if site.is_dir():
        return site
    site.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site.parent) as temporary:
        made = Path(temporary) / "made"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--retries", "0", "--timeout", "15", "--only-binary", ":all:"]  # offline it shall say so soon
        done([*pip, "--target", str(made), *requirements])
        if finish is not None:
            finish(made)
        shutil.move(made, site)
    return site


def done(command: Sequence[str]) -> None:
    """Run a command.

    Raises:
        Unavailable: it is not there, or failed; with the last line that it said.
    """
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        raise Unavailable(f"there is no {command[0]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{' '.join(command)} took more than 300 s") from None
    if ended.returncode:
        said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        raise Unavailable(f"{said[-1] if said else 'failed'} ({' '.join(command)})")
