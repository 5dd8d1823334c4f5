"""Table of what every command does when the machine fails it: disks, memory, folders that are read-only, clocks.

python -m tests.faults.limits                  all, some minutes
python -m tests.faults.limits chat clock       the commands and faults with one of these words in their names
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mobilevlm.engines.tables import markdown_lines
from mobilevlm.train.launch import SUMMARY_FILE
from tests.conftest import BENCHMARK, BUILD, CHAT, DEMO, GOLDEN, ROOT
from tests.faults.jobs import BATCH, PICTURE, SERVED, prepare
from tests.faults.traced import Room
from tests.tensorrt_double import tiny
from tests.tensorrt_double.settings import Settings

LORA = GOLDEN / "lora_v1"
MODULES = ROOT / "tests" / "tensorrt_double" / "modules"
SOURCE = Path(__file__).with_name("failing_calls.c")
GROWS = (".jsonl",)  # files that commands append to
MINUTE = 60


@dataclass(frozen=True)
class Command:
    """A command that goes on from, or replaces, an output that is there.

    Attributes:
        name: for the table.
        words: behind Python, in the working folder.
        out: its output in that folder, file or directory; empty for none.
        reads: part of the path of a file that it reads.
        writes: part of the paths that it writes.
        before: what makes the old output, where `words` does not.
        around: Python code that starts it, empty for none.
        environment: variables.
        notes: files of the output in which each step that is done is noted.
    """

    name: str
    words: tuple[object, ...]
    out: str
    reads: str
    writes: str = "/out"
    before: tuple[object, ...] = ()
    around: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What the machine does.

    Attributes:
        name: for the table.
        calls: of the C library that fail, see failing_calls.c; empty for none.
        number: that they leave in errno.
        reads: whether they are of the file that the command reads, not of its output.
        around: words of a shell before the command.
        writes: whether it stands in the way of commands alone that write.
    """

    name: str
    calls: str = ""
    number: int = 0
    reads: bool = False
    around: str = ""
    writes: bool = False


@dataclass(frozen=True)
class Result:
    """What happened.

    Attributes:
        status: exit status.
        said: stderr.
        is_kept: whether the old output is as it was, or the new one is whole (status 0).
        again: exit status of the same command once the fault is over.
    """

    status: int
    said: str
    is_kept: bool
    again: int

    @property
    def is_good(self) -> bool:
        """Whether it was done, or refused in a sentence, and nothing was lost."""
        return self.status in (0, 2) and "Traceback" not in self.said and self.is_kept and not self.again

    def __str__(self) -> str:
        told = "done" if self.status == 0 else (self.said.strip().splitlines() or ["nothing"])[-1]
        lost = "" if self.is_kept else " OLD OUTPUT LOST"
        return f"{self.status}: {told}{lost}" + (f" THEN {self.again}" if self.again else "")


def commands() -> Iterator[Command]:
    """The commands; paths are of the folder that `make` fills."""
    asked = ("--engine", "fp32", "--image", PICTURE, "--prompt", "What color is the circle?", "--no-check")
    yield Command("chat", (CHAT, *asked), "", "fp32/decoder.onnx")
    yield Command("chat --prefix", (CHAT, *asked, "--prefix", "out/prefix"), "out", PICTURE.name)
    yield Command(
        "build", (BUILD, *BUILDS, "--overwrite", "--out", "out"), "out", "demo/model.safetensors", "/.out.building"
    )
    double = Settings().as_environment() | {"PYTHONPATH": os.pathsep.join((str(MODULES), str(ROOT)))}
    compiling = (ROOT / "engines" / "compile.py", "out")
    yield Command("compile", compiling, "out", "out/decoder", environment=double, notes=("bundle.json",))
    quick = ("--repeats", 1, "--decode-tokens", 2, "--wait", 0, "--prompt-tokens", 180)
    yield Command("benchmark", (BENCHMARK, "--engine", "fp32", *quick), "", "fp32/vision.weights")
    evaluation = (ROOT / "eval" / "run.py", "--engine", "fp32", "--data", "data", "--tasks", "gqa", "--out", "out")
    yield Command("eval", evaluation, "out", "benchmark_data/gqa", before=(*evaluation, "--limit", 2))
    serving = (ROOT / "runtime" / "serve.py", "--engine", "fp32", "--port", 0)
    yield Command("serve", serving, "", "fp32/bundle.json", around=SERVED)
    tower = ("--model", LORA / "base", "--vision-tower", LORA / "openai_clip_tiny")
    rows = ("--data", "rows.json", "--images", PICTURE.parent, "--no-bf16", "--parallel", "none", "--out", "out")
    steps = (
        "--warmup-steps",
        1,
        "--save-steps",
        2,
        "--save-total-limit",
        2,
        "--dataloader-num-workers",
        0,
        "--max-steps",
        4,
    )
    training = (ROOT / "train" / "finetune.py", "--recipe", "v1_stage1", *tower, *rows, *BATCH, *steps)
    yield Command("finetune", training, "out", "rows.json", before=training)


BUILDS = ("--model", DEMO, "--target", "host", "--precision", "fp32")
FAULTS = (
    Fault("reading fails (EIO)", "read", errno.EIO, reads=True),
    Fault("writing fails (EIO)", "write", errno.EIO, writes=True),
    Fault("fsync fails (EIO)", "sync", errno.EIO, writes=True),
    Fault("the disk is full (ENOSPC)", "write", errno.ENOSPC, writes=True),
    Fault("over quota (EDQUOT)", "write", errno.EDQUOT, writes=True),
    Fault("a read-only file system", around="readonly"),
    Fault("little memory (ulimit -v 500000)", around="ulimit -v 500000;"),
    Fault("the clock jumps three hours, to and fro", "clock"),
)


@cache
def library(folder: Path) -> Path:
    """Compiles failing_calls.c into a folder."""
    made = folder / "failing_calls.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    return made


def can_fail() -> bool:
    """Whether this machine compiles and preloads a library, and mounts in a namespace of its own."""
    probe = ["unshare", "-rm", "true"]
    return bool(sys.platform == "linux" and shutil.which("cc") and not subprocess.run(probe).returncode)


def make(work: Path) -> None:
    """Fills a folder with what the commands read."""
    room = Room(work.with_name("room"))
    prepare(room)
    shutil.copytree(room.work, work)
    _require(subprocess.run(_python(BUILD, *BUILDS, "--out", "fp32"), cwd=work, capture_output=True, text=True))


def old_output(command: Command, work: Path) -> None:
    """Puts the output there that a command finds; it is made once."""
    out, kept = work / "out", work.with_name(f"old-{command.name}")
    shutil.rmtree(out, ignore_errors=True)
    if not kept.exists():
        if command.name == "compile":
            tiny.write_bundle(out)
        elif command.name == "build":
            shutil.copytree(work / "fp32", out)
        else:
            out.mkdir()
        if command.before:
            _require(_run(command, work, command.before))
        if command.name == "finetune":  # as it is after the first of its two checkpoints
            written_last = ("checkpoint-4", "*.safetensors", "*.bin", SUMMARY_FILE)
            for path in [path for name in written_last for path in out.glob(name)]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(out, kept)
        return
    shutil.copytree(kept, out)


def content(path: Path) -> dict[str, bytes]:
    """Files below a folder; what has a hidden or temporary name is none of the output."""
    found = (one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
    return {str(one.relative_to(path)): one.read_bytes() for one in found}


def result(command: Command, fault: Fault, work: Path) -> Result:
    """Does a command under a fault, and again without it."""
    if command.out:
        old_output(command, work)
    before = content(work / "out") if command.out else {}
    done = _run(command, work, command.words, fault)
    after = content(work / "out") if command.out else {}
    whole = (_is_kept(name, old, after.get(name)) for name, old in before.items() if name not in command.notes)
    kept = done.returncode == 0 or all(whole)
    again = _run(command, work, command.words)
    return Result(done.returncode, done.stderr, kept, again.returncode)


def _is_kept(name: str, old: bytes, new: bytes | None) -> bool:
    return new is not None and (new.startswith(old) if name.endswith(GROWS) else new == old)


def _run(
    command: Command, work: Path, words: tuple[object, ...], fault: Fault | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(work / "home")} | command.environment
    start = _python(*(["-c", command.around] if command.around else []), *words)
    if fault is not None and fault.calls:
        environment |= {
            "LD_PRELOAD": str(library(work.parent)),
            "FAULT_CALLS": fault.calls,
            "FAULT_PATH": command.reads if fault.reads else command.writes,
            "FAULT_ERROR": str(fault.number),
        }
    script = '"$@"'
    if fault is not None and fault.around == "readonly":
        script = f'mount --bind "$PWD" "$PWD" && cd "$PWD" && mount -o remount,ro,bind "$PWD" && {script}'
        return _shell(["unshare", "-rm"], script, start, work, environment)
    return _shell([], f"{fault.around if fault is not None else ''} {script}", start, work, environment)


def _shell(
    around: list[str], script: str, start: list[str], work: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    words = [*around, "bash", "-c", script, "bash", *start]
    return subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=10 * MINUTE)


def _python(*words: object) -> list[str]:
    return [sys.executable, *map(str, words)]


def _require(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise RuntimeError(f"{shlex.join(map(str, done.args))}: {done.stderr}")


def cases(wanted: list[str]) -> Iterator[tuple[Command, Fault]]:
    """Pairs of command and fault that can meet.

    Args:
        wanted: words of names; every one has to be in one of the two. Empty for all.
    """
    for command in commands():
        for fault in FAULTS:
            meets = command.out or not fault.writes
            if meets and all(word in command.name or word in fault.name for word in wanted):
                yield command, fault


def main() -> None:
    """Prints the table."""
    if not can_fail():
        sys.exit("Linux with cc and namespaces is needed")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        make(work)
        rows = (
            (command.name, fault.name, str(found).replace(folder, ""), "yes" if found.is_good else "NO")
            for command, fault in cases(sys.argv[1:])
            for found in [result(command, fault, work)]
        )
        for line in markdown_lines(["command", "fault", "result", "right"], rows):
            print(line, flush=True)


if __name__ == "__main__":
    main()
