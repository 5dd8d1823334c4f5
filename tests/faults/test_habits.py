"""Other people's habits: names of files, locales, homes, threads, cores, streams; a command answers all the same."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from mobilevlm.commands import CONSOLE_SCRIPTS
from mobilevlm.engines.cores import quota_cores
from tests.conftest import BUILD, CHAT, DEMO, ROOT
from tests.faults.test_limits import ANSWERS, require_sentence, shell

NAMES = ("two words", "Büro", "new\nline", "-dash", "'quoted\"", "$HOME;*", "日本", "e\u0301")  # of NFD, too
ANSWER = "The circle is red.\n"
NO_UTF_8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# Counts the threads of a process that has answered.
THREADS = """
import os, sys
from mobilevlm.runtime import Session
with Session(sys.argv[1]) as session:
    "".join(session.chat("What color is the circle?", sys.argv[2]))
    print(len(os.listdir("/proc/self/task")))
"""


def require_answer(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0 and done.stdout == ANSWER, done.stdout + done.stderr


def can_unshare(*words: str) -> bool:
    return not subprocess.run(["unshare", *words, "true"], capture_output=True).returncode


def test_a_quota_of_a_container_is_read_in_both_versions(tmp_path):
    """Kind: `docker run --cpus`; half a core is one. Public: tobocop2/lilbee pull request 660."""
    assert quota_cores(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for text, cores in (("-1", None), ("50000", 1), ("200000", 2), ("250001", 3)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{text}\n")
        assert quota_cores(tmp_path) == cores
    for text, cores in (("max 100000", None), ("50000 100000", 1), ("400000 100000", 4)):
        (tmp_path / "cpu.max").write_text(f"{text}\n")
        assert quota_cores(tmp_path) == cores


@pytest.mark.skipif(not can_unshare("-rm"), reason="no mounts in a namespace here")
def test_a_quota_limits_the_threads(demo_fp32, tmp_path):
    """Kind: a container's quota on a machine of more cores: no threads that the system would stop in turns.

    Public: ollama/ollama issue 17916, uxlfoundation/oneTBB issue 190.
    """
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    script = f'mount --bind {shlex.quote(str(tmp_path))} /sys/fs/cgroup && exec "$@"'
    words = [sys.executable, "-c", THREADS, str(demo_fp32), str(ROOT / "assets" / "shapes.png")]
    free, limited = (
        int(subprocess.run([*start, *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout)
        for start in ([], ["unshare", "-rm", "bash", "-c", script, "bash"])
    )
    if len(os.sched_getaffinity(0)) == 1:
        assert limited == free
    else:
        assert limited < free


def test_names_that_are_not_utf_8(demo_fp32, tmp_path):
    """Kind: a name of another encoding; what packages open is refused by name, and a picture is read.

    Public: torchfont/torchfont pull request 277, devsnd/tarindexer issue 9.
    """
    name = os.fsdecode(b"b\xfcro")
    (tmp_path / name).symlink_to(demo_fp32)
    engine = tmp_path / name
    require_sentence(shell('"$@"', CHAT, "--engine", engine, *ANSWERS), "b\\xfcro", "is no UTF-8")
    require_sentence(
        shell('"$@"', BUILD, "--model", DEMO, "--target", "host", "--out", tmp_path / f"{name}-out"), "is no UTF-8"
    )
    picture = tmp_path / f"{name}.png"
    picture.write_bytes((ROOT / "assets" / "shapes.png").read_bytes())
    require_answer(shell('"$@"', CHAT, "--engine", demo_fp32, "--image", picture, *ANSWERS[2:]))


@pytest.mark.slow
@pytest.mark.parametrize("locale", [{}, NO_UTF_8], ids=["UTF-8", "C"])
def test_odd_names_in_every_path(tmp_path, locale):
    """Kinds: spaces, Unicode, line ends, leading dashes, quotes in engine, image, model, out and data; relative.

    Public: ggml-org/llama.cpp issue 5802, microsoft/onnxruntime-genai issue 1262.
    """
    for number, name in enumerate(NAMES):
        folder = tmp_path / f"{number}" / name
        folder.mkdir(parents=True)
        (folder / f"{name}.png").symlink_to(ROOT / "assets" / "shapes.png")
        (folder / f"{name}-model").symlink_to(DEMO)
        there = f"cd {shlex.quote(str(folder.parent))}; "
        model, out = f"--model={name}/{name}-model", f"--out={name}/{name}-out"
        done = shell(there + '"$@"', BUILD, model, "--target", "host", "--precision", "fp32", out, **locale)
        assert done.returncode == 0, (name, done.stderr)
        asked = (f"--engine={name}/{name}-out", f"--image={name}/{name}.png", *ANSWERS[2:], "--max-new-tokens", 12)
        require_answer(shell(there + '"$@"', CHAT, *asked, f"--prefix={name}/{name}-prefix", **locale))
        require_answer(shell(there + '"$@"', CHAT, *asked, f"--prefix={name}/{name}-prefix", **locale))


@pytest.mark.slow
@pytest.mark.parametrize("value", ["0", "-1", "abc", "4096", ""])
def test_odd_numbers_of_threads(demo_fp32, value):
    """Kind: OMP_NUM_THREADS and its like, which packages read. Public: pydata/numexpr issue 318."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    require_answer(shell('"$@"', CHAT, "--engine", demo_fp32, *ANSWERS, **dict.fromkeys(names, value)))


@pytest.mark.slow
def test_one_core(demo_fp32):
    """Kind: taskset, or a board with the others switched off. Public: microsoft/onnxruntime issue 7207."""
    core = min(os.sched_getaffinity(0))
    require_answer(shell(f'taskset -c {core} "$@"', CHAT, "--engine", demo_fp32, *ANSWERS))


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "", "relative", "/proc", "/etc/hostname", "/nonexistent"])
def test_odd_homes(demo_fp32, home):
    """Kinds: no HOME, an empty or relative one, one that cannot be written, a file.

    Public: open-mmlab/mim issue 240, matplotlib/matplotlib pull request 30454.
    """
    require_answer(shell('"$@"', CHAT, "--engine", demo_fp32, *ANSWERS, HOME=home))
    assert not (ROOT / "relative").exists()


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare("-U", "--map-user=12345"), reason="no namespace of users here")
def test_a_user_without_an_entry_in_passwd(demo_fp32, tmp_path):
    """Kind: `docker run --user 12345`: build, chat, evaluation, training's help; no home, no name.

    Public: vectorize-io/hindsight pull request 3934.
    """
    nobody = 'exec unshare -U --map-user=12345 "$@"'
    alone = dict.fromkeys(("HOME", "USER", "LOGNAME"))
    require_answer(shell(nobody, CHAT, "--engine", demo_fp32, *ANSWERS, **alone))
    words = (BUILD, "--model", DEMO, "--target", "host", "--precision", "fp32", "--out", tmp_path / "out")
    done = shell(nobody, *words, **alone)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", CONSOLE_SCRIPTS)
def test_streams_of_every_command(script):
    """Kinds: `| head -1`, /dev/full, no stdin, no streams at all: a status, and nothing of Python's on stderr.

    Public: Backblaze/B2_Command_Line_Tool issue 1071.
    """
    for words, allowed in (
        ('"$@" --help | head -1 >/dev/null; exit "${PIPESTATUS[0]}"', (0, 141)),
        ('"$@" --help >/dev/full', (2,)),
        ('"$@" --help <&- >/dev/null', (0,)),
        ('"$@" --help <&- >&- 2>&-', (0,)),
    ):
        done = shell(words, ROOT / script)
        assert done.returncode in allowed, (words, done.stderr)
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr


@pytest.mark.slow
def test_pipes_that_close_early(demo_fp32):
    """Kind: a reader that goes away while questions still come. Public: python/cpython issue 90650."""
    done = shell('yes "What color?" | "$@" | head -1; exit "${PIPESTATUS[1]}"', CHAT, *("--engine", demo_fp32))
    assert done.returncode == 141 and len(done.stdout.splitlines()) == 1 and "Traceback" not in done.stderr


@pytest.mark.slow
def test_modules_of_our_names_in_the_working_directory(demo_fp32, tmp_path):
    """Kind: types.py, json.py, torch.py and the like of the person's own beside their pictures.

    Public: pytorch/pytorch issues 574 and 110447.
    """
    for name in ("types", "json", "torch", "numpy", "re", "random", "typing", "logging", "onnx", "PIL"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    there = f'cd {shlex.quote(str(tmp_path))}; "$@"'
    require_answer(shell(there, CHAT, "--engine", demo_fp32, *ANSWERS))
    done = shell(there, BUILD, "--model", DEMO, "--target", "host", "--precision", "fp32", "--out", "out")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_clone_behind_a_link(demo_fp32, tmp_path):
    """Kind: a symlinked clone, another working directory, relative paths.

    Public: Illumina/hap.py issue 10, kohya-ss/sd-scripts pull request 717.
    """
    (tmp_path / "clone").symlink_to(ROOT)
    (tmp_path / "engine").symlink_to(demo_fp32)
    script = f'cd {shlex.quote(str(tmp_path))}; "$1" clone/runtime/chat.py --engine engine "${{@:2}}"'
    require_answer(shell(script, *ANSWERS))
