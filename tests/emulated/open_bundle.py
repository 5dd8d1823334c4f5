"""Opens a bundle as any program does, with the check of a first opening; prints `opened` or why it was refused."""

from __future__ import annotations

import sys

from mobilevlm.engines.bundle import BundleError
from mobilevlm.runtime import Session

try:
    Session(sys.argv[1]).close()
    print("opened")
except BundleError as error:
    print(error)
