"""Emulators and a device's packages, fetched once into the clone; nothing is installed on the machine.

QEMU runs a program of another CPU as if it were one of this machine. On 64-bit Arm that is Debian's Python with PyPI's
wheels, on x86 this machine's own Python. Debian 12's QEMU shows programs the machine's own /proc/cpuinfo, on which ONNX
Runtime for Arm crashes: it is taken from the backports.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Lock

from tests.conftest import ROOT
from tests.emulated.cpus import Cpu

CACHE = ROOT / "artifacts" / "emulated"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASE, BACKPORTS = "bookworm", "bookworm-backports"
ARM_PYTHON = "3.11"  # of that release
ARM_PACKAGES = (f"python{ARM_PYTHON}", "libstdc++6", "libgomp1")
GLIBC = ("2_28", "2_27", "2_17")  # of wheels; 2014 is a name of the last
# Sources do not change under a copy, so compiled ones are not compared with them: emulated, that takes minutes.
COMPILE = ("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash")
_LOCK = Lock()  # what two want is fetched once


class CannotHaveError(Exception):
    """Something that this machine cannot get."""


def command(cpu: Cpu, code: Path) -> tuple[list[str], dict[str, str]]:
    """What starts Python on a CPU.

    Args:
        cpu: one of `cpus.CPUS`, or `HERE`.
        code: what `copy_code` made.

    Returns:
        The first words of a command line, and its whole environment.

    Raises:
        CannotHaveError: there is no such CPU here.
    """
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise CannotHaveError("the emulators here run on Linux on x86-64")
    with _LOCK:
        return _command(cpu, code)


def _command(cpu: Cpu, code: Path) -> tuple[list[str], dict[str, str]]:
    if cpu.machine == "aarch64":
        root = _arm_root()
        words = [_qemu(cpu.machine), "-L", root, "-cpu", cpu.model, root / f"usr/bin/python{ARM_PYTHON}"]
    else:
        python = _python(cpu.python)
        words = [python] if cpu.model is None else [_qemu(cpu.machine), "-cpu", cpu.model, python]
    path = os.pathsep.join(map(str, (_packages(cpu), code)))
    # Not this process's: it may choose kernels of a CPU that is not emulated (OPENBLAS_CORETYPE).
    environment = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "HOME": str(CACHE)}
    return [*map(str, words), "-s", "-S"], environment


def copy_code(out: Path) -> Path:
    """Copy what of this project is on a device, compiled for Python 3.11; returns `out`."""
    for name in ("mobilevlm", "engines", "runtime"):
        shutil.copytree(ROOT / name, out / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", out / "pyproject.toml")
    _compile(out)
    return out


def _packages(cpu: Cpu) -> Path:
    """A device's packages: a directory for PYTHONPATH."""
    pins = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.M))
    version = cpu.onnxruntime or pins["onnxruntime"]
    # Pinned versions have no wheels for an older Python, which gets the newest that are there.
    wanted = [f"{name}=={pins[name]}" if cpu.python == ARM_PYTHON else name for name in cpu.packages]
    wanted = [f"onnxruntime=={version}" if name.startswith("onnxruntime") else name for name in wanted]
    extra = "-openvino" if "openvino" in cpu.packages else ""
    out = CACHE / f"packages-{cpu.machine}-{cpu.python}-{version}{extra}"
    if (out / "complete").exists() and (out / "complete").read_text() == " ".join(wanted):
        return out
    shutil.rmtree(out, ignore_errors=True)
    wheels = ["--only-binary=:all:", "--implementation", "cp", "--python-version", cpu.python]
    wheels += [word for glibc in GLIBC for word in ("--platform", f"manylinux_{glibc}_{cpu.machine}")]
    wheels += ["--platform", f"manylinux2014_{cpu.machine}", "--no-compile", "--target", str(out)]
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wheels, *wanted)
    _compile(out)
    (out / "complete").write_text(" ".join(wanted))
    return out


def _python(version: str) -> str:
    """This machine's Python of a version, outside of any environment."""
    if version == platform.python_version().rsplit(".", 1)[0]:
        return os.path.realpath(sys.executable)
    found = (
        shutil.which("pyenv")
        and subprocess.run(
            ["pyenv", "whence", "--path", f"python{version}"], capture_output=True, text=True
        ).stdout.split("\n")[0]
    )
    for python in filter(None, (found, shutil.which(f"python{version}"))):
        if subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return os.path.realpath(python)
    raise CannotHaveError(f"there is no Python {version} here")


def _qemu(machine: str) -> Path:
    """QEMU for programs of one kind of CPU."""
    path = CACHE / f"qemu-{machine}"
    if not path.exists():
        with TemporaryDirectory(dir=CACHE) as directory:
            _apt("amd64", BACKPORTS, "download", "qemu-user", cwd=directory)
            _run("dpkg", "-x", *Path(directory).glob("*.deb"), directory)
            (Path(directory) / "usr/bin" / path.name).rename(path)
    return path


def _arm_root() -> Path:
    """A directory that has Python for 64-bit Arm in it and the libraries that it needs."""
    root = CACHE / "arm64"
    if not root.exists():
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        archives = _apt("arm64", RELEASE, "install", "--yes", "--download-only", *ARM_PACKAGES)
        for package in sorted(archives.glob("*.deb")):
            _run("dpkg", "-x", package, part)
        _compile(part / f"usr/lib/python{ARM_PYTHON}")
        part.rename(root)
    return root


def _apt(architecture: str, suite: str, *words: str, cwd: str | None = None) -> Path:
    """Run apt-get on a suite with lists of its own; returns where it puts what it fetches."""
    if not shutil.which("apt-get") or not KEYRING.exists():
        raise CannotHaveError("the emulators are Debian's packages, and this is no Debian")
    home = CACHE / "apt" / f"{architecture}-{suite}"
    for name in ("etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "state/status").touch()
    (home / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {suite} main\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "root",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Dir::Etc": home / "etc",
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": home / "state",
        "Dir::State::status": home / "state/status",
        "Dir::Cache": home / "cache",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    for step in (("update",), words):
        _run("apt-get", "--quiet", *options, *step, cwd=cwd)
    return home / "cache/archives"


def _mirror() -> str:
    """Where this machine gets its own packages from."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    lines = [line for file in files if file.is_file() for line in file.read_text().splitlines()]
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    if found := re.search(r"https?://\S+/debian/?(?=\s|$)", text):
        return found[0]
    raise CannotHaveError("apt's sources name no mirror of Debian")


def _compile(directory: Path) -> None:
    """Compile sources; those of Debian that are not for this version are left alone."""
    subprocess.run([_python(ARM_PYTHON), *COMPILE, str(directory)], capture_output=True)


def _run(*words: str | Path, cwd: str | None = None) -> None:
    with TemporaryFile("w+") as said:
        done = subprocess.run([*map(str, words)], cwd=cwd, stdout=said, stderr=subprocess.STDOUT)
        said.seek(0)
        if done.returncode:
            last = [line for line in said.read().splitlines() if line.strip()][-1:]
            raise CannotHaveError(f"{Path(words[0]).name}: {''.join(last)}")
