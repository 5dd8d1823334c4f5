"""What several tests of the runtime share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import build_here
from tests.runtime.polygraphy_folders import BUILDS, write


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """By name: a bundle of the demo model for an Orin, and the folders for Polygraphy. Not to be written into."""
    root, known = tmp_path_factory.mktemp("polygraphy"), {}

    def make(name: str) -> tuple[Path, Path]:
        if name not in known:
            model, precision, pieces = BUILDS[name]
            out = root / f"{name} orin"
            options = ("--target", "orin", "--blocks", str(pieces), "--max-context", "512")
            build_here(*model, *options, precision=precision, out=out)
            known[name] = out, write(out, root / f"{name} folders")
        return known[name]

    return make
