"""Remembers on which machines a bundle was found right, so that it is checked once on each and not at every start."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from mobilevlm.atomic_file import write_whole
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.integrity import CHECKED_FILE
from mobilevlm.engines.json_file import read_json_file
from mobilevlm.engines.machine import fingerprint
from mobilevlm.environment import user_cache

from .decoder import Decoder
from .runner import Runner
from .self_check import require, run_sample

MOST_MACHINES = 64  # that one copy of a bundle remembers, the newest


def key_of(bundle: Bundle, runner: Runner) -> str:
    """Returns what a verdict holds for: the bundle's files, this machine, and what runs the stages.

    Args:
        bundle: that was checked.
        runner: of its stages.
    """
    machine = ", ".join(f"{name} {value}" for name, value in fingerprint().items())
    name = f"{type(runner).__name__}, prompts by {runner.prompts_by}"
    return f"{bundle.manifest.seal} {name} on {machine}"


def require_right(decoder: Decoder) -> None:
    """Runs a bundle's sample where it was not found right on this machine before.

    Raises:
        BundleError: it computes something else here than where it was built.
    """
    key = key_of(decoder.bundle, decoder.runner)
    if not is_known_right(decoder.bundle, key):
        require(decoder.bundle, run_sample(decoder), decoder.runner.remedy())
        remember_right(decoder.bundle, key)


def is_known_right(bundle: Bundle, key: str) -> bool:
    """Whether a bundle was found right before.

    Args:
        bundle: that is to be opened.
        key: of the verdict, see `key_of`.
    """
    return any(key in _read(path) for path in _places(bundle))


def remember_right(bundle: Bundle, key: str) -> None:
    """Notes that a bundle was found right; where nothing can be written it is checked at every start.

    Args:
        bundle: that was checked.
        key: of the verdict, see `key_of`.
    """
    for path in _places(bundle):
        known = [*(one for one in _read(path) if one != key), key][-MOST_MACHINES:]
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(known, indent=1).encode(), shared=True)
            return


def _places(bundle: Bundle) -> list[Path]:
    """Files that hold verdicts: in the bundle, and in the user's cache for a bundle that cannot be written to."""
    return [bundle.path(CHECKED_FILE), user_cache("checked") / f"{bundle.manifest.seal[:32]}.json"]


def _read(path: Path) -> list[str]:
    try:
        known = read_json_file(path)[0]
    except (OSError, ValueError):
        return []
    return [one for one in known if isinstance(one, str)] if isinstance(known, list) else []
