"""OpenVINO, imported without what it sends: the only place where it is imported.

Its package imports its converter, which reports the import to a statistics server and keeps a number of the user in
`~/intel`, unless `openvino_telemetry` is missing. No variable turns that off but those that continuous integration
sets, and the file that its `opt_in_out --opt_out` writes is one more file in the user's home.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

TELEMETRY = "openvino_telemetry"


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Hides the package that sends, so that OpenVINO takes its own empty one; a program that imported it keeps it."""
    if TELEMETRY in sys.modules:
        yield
        return
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # as the import system documents it: "not found"
    try:
        yield
    finally:
        del sys.modules[TELEMETRY]


with _without_telemetry():
    import openvino
    from openvino import opset13

__all__ = ["openvino", "opset13"]
