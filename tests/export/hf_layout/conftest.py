"""The layout of the demo model, built once by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DEMO, build, once


@pytest.fixture(scope="session")
def demo_hf(tmp_path_factory) -> Path:
    """Every variant of the demo model in Hugging Face's layout. Do not write into it."""

    def make(out: Path) -> None:
        done = build("--model", DEMO, "--layout", "hf", out=out, precision=None)
        assert done.returncode == 0, done.stderr

    return once(tmp_path_factory, "demo-hf", make)
