"""Settings of other packages that are read when they are imported: nothing is sent, nothing is kept in odd places.

They are environment variables because that is the only switch that works in time: ONNX Runtime has written a device id
and a queue of events below `~/.cache`, and may have looked up its vendor's server, before `import onnxruntime` returns.
Processes that we start inherit them. What a person has set stays.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

# https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md, and
# https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
MATPLOTLIB = (
    "MPLCONFIGDIR"  # its fonts and settings: https://matplotlib.org/stable/install/environment_variables_faq.html
)


def user_cache(kind: str) -> Path:
    """Returns the user's folder for files that may be lost and make the next start quicker; it may not exist yet.

    A user without a home (no HOME, no entry in /etc/passwd) has none: the folder cannot be made then.

    Args:
        kind: of file, such as `kernels`.
    """
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home if os.path.isabs(home) else os.devnull) / "mobilevlm" / kind


def keep_to_ourselves(environment: MutableMapping[str, str]) -> None:
    """Turns telemetry off, and puts matplotlib's list of fonts into our cache.

    Args:
        environment: variables, changed in place.
    """
    for name, value in NO_TELEMETRY.items():
        environment.setdefault(name, value)
    fonts = user_cache("matplotlib")
    if not fonts.is_relative_to(os.devnull):
        environment.setdefault(MATPLOTLIB, str(fonts))
