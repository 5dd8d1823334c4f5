"""What a killed build left is found and offered: by the next build of any name, and where a bundle is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mobilevlm.engines.atomic_dir import staged
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.leftovers import BUILDING, OLD, leftovers
from tests.conftest import CHAT, run


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def left(tmp_path, dead):
    """An unfinished build of 3 MB, and names that only look like one."""
    path = tmp_path / f".robot.{BUILDING}-{dead}"
    path.mkdir()
    (path / "decoder.weights").write_bytes(bytes(3_000_000))
    (tmp_path / f".a file.{BUILDING}-{dead}").touch()
    (tmp_path / ".robot.building").mkdir()
    return path


def test_the_next_build_of_another_name_tells_how_much_and_how_to_remove_it(left, tmp_path, capsys):
    """Kind: a killed build's folder that stays."""
    with staged(tmp_path / "other", False) as directory:
        (directory / "x").touch()
    said = capsys.readouterr().err
    assert said == f"a killed build left 3 MB in {left}: rm -r {left} removes them\n"
    assert left.is_dir()


def test_the_next_build_of_its_name_removes_it(left, tmp_path, capsys):
    with staged(tmp_path / "robot", False) as directory:
        assert not left.exists() and [one.path for one in leftovers(tmp_path)] == []
        (directory / "x").touch()
    assert capsys.readouterr().err == ""


def test_a_running_build_is_no_leftover(left, tmp_path, dead):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        left.rename(tmp_path / f".robot.{BUILDING}-{process.pid}")
        assert leftovers(tmp_path) == []
    finally:
        process.communicate(b"\n")


def test_chat_on_a_missing_bundle_offers_it(left, tmp_path):
    done = run(CHAT, "--engine", tmp_path / "robot", "--prompt", "What is it?")
    assert done.returncode == 2 and f"a killed build left 3 MB in {left}: rm -r {left} removes them" in done.stderr


def test_an_old_bundle_that_was_about_to_be_replaced_is_brought_back(tmp_path, dead):
    old = tmp_path / f".my robot.{OLD}-{dead}"
    old.mkdir()
    with pytest.raises(BundleError) as refused:
        Bundle.open(tmp_path / "my robot")
    assert f"mv '{old}' '{tmp_path / 'my robot'}' brings it back" in str(refused.value)
