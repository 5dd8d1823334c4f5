"""Out of disk, memory, descriptors, folders, home, locale or readers: a sentence, and the old output stays whole."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BENCHMARK, BUILD, CHAT, DEMO, GOLDEN, ROOT
from tests.tensorrt_double import tiny
from tests.tensorrt_double.settings import Settings

MODULES = ROOT / "tests" / "tensorrt_double" / "modules"
VERIFY = ROOT / "runtime" / "verify.py"
ANSWERS = ("--image", ROOT / "assets" / "shapes.png", "--prompt", "What color is the circle?", "--no-check")
BUILDS = ("--model", DEMO, "--target", "host", "--precision", "fp32", "--overwrite", "--out")


def shell(script: str, *words: object, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs Python with some words as "$@" of a shell script; None takes a variable away."""
    kept = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = ["bash", "-c", script, "bash", sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=300)


def require_sentence(done: subprocess.CompletedProcess[str], *words: str, status: int = 2) -> None:
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and all(word in done.stderr for word in words), done.stderr


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def old(demo_fp32, tmp_path) -> Path:
    return shutil.copytree(demo_fp32, tmp_path / "old")


def test_a_limit_on_file_sizes_leaves_the_old_bundle(bundle_copy):
    """Kind: ulimit -f."""
    before, model = content(bundle_copy), GOLDEN / "v2_ldpnetv2_336" / "ckpt_safetensors"
    words = ("--model", model, *BUILDS[2:], bundle_copy)
    require_sentence(shell('ulimit -f 200; "$@"', BUILD, *words), "larger than this process", "ulimit -f")
    assert content(bundle_copy) == before and [path.name for path in bundle_copy.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_a_disk_that_fills_during_a_build_leaves_the_old_bundle(old, tmp_path):
    """Kind: a full disk, on a file system in memory that another program fills."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
        mount -t tmpfs -o size=150m none {shlex.quote(str(disk))} && cd {shlex.quote(str(disk))} || exit 99
        cp -r {shlex.quote(str(old))} out && mkdir tmp
        (until ls -d .out.building-* 2>/dev/null; do sleep 0.1; done; cat /dev/zero >fill) >/dev/null 2>&1 &
        "$@"
        status=$?
        wait
        diff -r out {shlex.quote(str(old))} && [ "$(ls -A | tr '\\n' ' ')" = "fill out tmp " ] || exit 98
        exit $status
    """
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("no mounts in a namespace here")
    words = ["unshare", "-rm", "bash", "-c", script, "bash", sys.executable, str(BUILD), *map(str, BUILDS), "out"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    require_sentence(done, "the disk is full")


def test_memory_that_is_too_small_is_said(demo_fp32):
    """Kind: ulimit -v, which a package's own exception reports."""
    done = shell('ulimit -v 500000; "$@"', BUILD, *BUILDS, demo_fp32)
    require_sentence(done, "memory ran out (this process may have 512 MB: ulimit -v)")


def test_memory_that_is_too_small_in_a_process_of_a_command_is_said(demo_fp32):
    """Kind: ulimit -v, met by the process that measures: its traceback reached the user."""
    quick = ("--repeats", 1, "--decode-tokens", 2, "--wait", 0, "--prompt-tokens", 180)
    done = shell('ulimit -v 330000; "$@"', BENCHMARK, "--engine", demo_fp32, *quick)
    # A C library may end the process before: "most likely for want of memory".
    require_sentence(done, "benchmark.py: ", "memory")


def test_memory_that_is_too_small_to_load_pytorch_is_said(tmp_path):
    """Kind: ulimit -v, which C++ libraries answer by ending the process."""
    (tmp_path / "rows.json").write_text("[]")
    words = ("--recipe", "v2_stage2", "--model", DEMO, "--data", tmp_path / "rows.json", "--images", DEMO)
    words += ("--out", tmp_path / "run")
    done = shell('ulimit -v 500000; "$@"', ROOT / "train" / "finetune.py", *words)
    require_sentence(done, "memory ran out (this process may have 512 MB: ulimit -v): loading PyTorch takes 1,000 MB")
    assert not (tmp_path / "run").exists()


def test_a_file_that_a_worker_cannot_write_is_said(tmp_path):
    """Kind: a disk that refuses files, met by the process that builds: its traceback reached the user."""
    tiny.write_bundle(tmp_path / "bundle")
    before = content(tmp_path / "bundle")
    double = Settings().as_environment() | {"PYTHONPATH": os.pathsep.join((str(MODULES), str(ROOT)))}
    done = shell('ulimit -f 0; "$@"', ROOT / "engines" / "compile.py", tmp_path / "bundle", **double)
    require_sentence(done, "no folder for temporary files can be written")
    done = shell('ulimit -f 1; "$@"', ROOT / "engines" / "compile.py", tmp_path / "bundle", **double)
    require_sentence(done, "larger than this process or its file system may write", "bundle/")
    assert before.items() <= content(tmp_path / "bundle").items()


def test_few_descriptors_are_said():
    """Kind: ulimit -n."""
    require_sentence(shell('ulimit -n 24; "$@"', "-c", OPENS_FILES), "too many files are open", "ulimit -n 4096")


OPENS_FILES = """
import argparse
from mobilevlm.commands import run_command
kept = []
run_command(argparse.ArgumentParser(), lambda _: [kept.append(open("/dev/null")) for _ in range(30)], [])
"""


def test_output_that_cannot_be_written(demo_fp32):
    """Kind: /dev/full; Python's own complaint at its end is not seen, and argparse's silence about its help."""
    done = shell('"$@" >/dev/full', VERIFY, "--engine", demo_fp32)
    require_sentence(done, "the disk is full")
    assert "Exception ignored" not in done.stderr
    done = shell('"$@" >/dev/full', VERIFY, "--help")
    require_sentence(done, "the disk is full")


def test_a_reader_that_goes_away():
    """Kind: `| head`."""
    done = shell('"$@" --help | true; exit "${PIPESTATUS[0]}"', BUILD)
    assert done.returncode in (0, 141) and done.stderr == ""


def test_closed_streams_are_not_written_into_files(demo_fp32):
    """Kind: started with stdin, stdout and stderr closed, as from cron."""
    assert shell('"$@" <&- >&- 2>&-', VERIFY, "--engine", demo_fp32).returncode == 0


def test_no_home_and_no_entry_in_passwd(demo_fp32, tmp_path):
    """Kind: a container's user number that nobody knows; no folder named `~` appears."""
    before = set(Path(ROOT).iterdir())
    script = (
        'exec setpriv --reuid 12345 --clear-groups "$@"' if os.geteuid() == 0 and shutil.which("setpriv") else '"$@"'
    )
    done = shell(
        script,
        "-c",
        "import runpy, sys; print(__import__('mobilevlm.environment').environment.user_cache('x'))",
        HOME=None,
    )
    if done.returncode:
        pytest.skip("the interpreter lies where another user may not read")
    assert done.stdout.startswith(("/dev/null/", "/")) and "~" not in done.stdout
    assert set(Path(ROOT).iterdir()) == before


def test_no_folder_for_temporary_files(bundle):
    """Kind: TMPDIR that is not there; another one is taken, as Python does."""
    quick = ("--repeats", 1, "--decode-tokens", 2, "--wait", 0, "--prompt-tokens", 260)
    done = shell('"$@"', BENCHMARK, "--engine", bundle, *quick, TMPDIR="/nonexistent")
    assert done.returncode == 0, done.stderr


def test_a_path_beyond_ascii_in_a_locale_without_utf_8(demo_fp32, tmp_path):
    """Kind: LC_ALL=C without Python's own way out of it: the command starts anew in UTF-8.

    Public: bvanheu/pytoutv issue 73, docker-library/python issue 13.
    """
    engine = tmp_path / "Büro"
    engine.symlink_to(demo_fp32)
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell('"$@"', CHAT, "--engine", engine, *ANSWERS, **old)
    assert done.returncode == 0 and done.stdout == "The circle is red.\n", done.stderr
    assert done.stderr.isascii()  # the terminal's encoding stays: an interpunct becomes a question mark
    done = shell("\"$@\" --prompt $'Gr\\xf6\\xdfe?'", CHAT, "--engine", engine, *ANSWERS, **old)
    require_sentence(done, "the question is not UTF-8 text")


def test_folders_of_our_names_in_the_working_directory(demo_fp32, tmp_path):
    """Kind: `eval`, `runtime`, `engines` of the person's own, in the working directory and on PYTHONPATH.

    Public: pytorch/pytorch issue 574.
    """
    for name in ("eval", "runtime", "engines", "export", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    script = f'cd {shlex.quote(str(tmp_path))}; "$@"'
    done = shell(script, CHAT, "--engine", demo_fp32, *ANSWERS, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0 and done.stdout == "The circle is red.\n", done.stderr
