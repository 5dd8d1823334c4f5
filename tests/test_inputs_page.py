"""docs/inputs.md: every row of its tables names a test that exists, or is told by the one above."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| kind ")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_row_names_its_test(row):
    cell = row.rstrip(" |").rpartition("|")[2].strip()
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", cell)
    assert named or cell == "the same"
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"
