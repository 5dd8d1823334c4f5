"""Sets a parameter of the kernel in extlinux.conf, which the boot loader of Jetson Linux reads.

    sudo env "PATH=$PATH" python jetson/extlinux.py cma=950M

One word of the line that the board boots by (APPEND of the DEFAULT label) is added or changed, every other byte is
kept. The old file stays beside it, and the command that restores it is printed. A file that is not understood
is left alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import re
import shlex
from collections.abc import Sequence

from mobilevlm.atomic_file import write_whole
from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path

FILE = "/boot/extlinux/extlinux.conf"
SIGNATURE = ".sig"  # of the same name, where secure boot is on
# The loader tells keywords by their first letters, in capitals, and keeps this many labels. It takes the first label
# where there is no DEFAULT. https://github.com/NVIDIA/edk2-nvidia, Silicon/NVIDIA/Application/L4TLauncher
MOST_LABELS = 10
LINE = re.compile(rb"[ \t]*(DEFAULT|LABEL|APPEND)(?:[ \t]+(.*?))?[ \t\r]*", re.DOTALL)
PARAMETER = re.compile(r"([a-z][\w.-]*)=([\w,.:-]+)")


class ExtlinuxError(UserError):
    """Raised for a file that is left unchanged; the message says why."""


def get_parameter(content: bytes, name: str) -> str | None:
    """Returns a parameter's value in the line that the board boots by; None where it has none.

    Args:
        content: content of the file.
        name: name of the parameter, such as `cma`.

    Raises:
        ExtlinuxError: the file is not understood, or has the parameter several times.
    """
    _, begin, end = boot_line(content)
    found = _places(content[begin:end], name)
    return content[begin:end][slice(*found[0])].decode().partition("=")[2] if found else None


def set_parameter(content: bytes, name: str, value: str) -> bytes:
    """Sets a parameter's value in the line that the board boots by; content that has it already stays the same.

    Args:
        content: content of the file.
        name: name of the parameter, such as `cma`.
        value: value of the parameter, such as `950M`.

    Raises:
        ExtlinuxError: the file is not understood, or has the parameter several times or in another form.
    """
    label, begin, end = boot_line(content)
    arguments, word = content[begin:end], f"{name}={value}".encode()
    found = _places(arguments, name)
    if not found:
        return content[:end] + b" " + word + content[end:]
    first, last = found[0]
    old = arguments[first:last].decode(errors="replace")
    if not PARAMETER.fullmatch(old):
        raise ExtlinuxError(f"label {label} has {old}, which is more than a value: change it by hand")
    return content[: begin + first] + word + content[begin + last :]


def boot_line(content: bytes) -> tuple[str, int, int]:
    """Finds the label that is booted, and the offsets of the begin and end of its APPEND arguments.

    Raises:
        ExtlinuxError: there is no such line, there are several, or one that may be read in two ways.
    """
    if b"\0" in content:
        raise ExtlinuxError("it is not plain text")
    defaults: list[bytes] = []
    labels: list[bytes] = []
    appends: list[tuple[int, int, int]] = []  # index of the label, begin and end of the arguments
    offset = 0
    for line in content.split(b"\n"):
        found = LINE.fullmatch(line)
        value = (found[2] or b"") if found else b""
        if found and found[1] == b"DEFAULT":
            defaults.append(value)
        elif found and found[1] == b"LABEL":
            labels.append(value)
        elif found and labels:
            begin = offset + (found.start(2) if found[2] else found.end(1))
            appends.append((len(labels) - 1, begin, begin + len(value)))
        offset += len(line) + 1
    index = _booted(defaults, labels)
    label = labels[index].decode(errors="replace")
    own = [(begin, end) for owner, begin, end in appends if owner == index]
    if len(own) != 1:
        raise ExtlinuxError(f"label {label} has {len(own)} APPEND lines instead of one")
    begin, end = own[0]
    if odd := [mark for mark in ("#", '"', "'", "\r") if mark.encode() in content[begin:end]]:
        raise ExtlinuxError(f"the APPEND line of label {label} has a {odd[0]!r}, which may be read in two ways")
    return label, begin, end


def _booted(defaults: list[bytes], labels: list[bytes]) -> int:
    """Index of the label that is booted."""
    if not labels:
        raise ExtlinuxError("it has no LABEL")
    if len(labels) > MOST_LABELS:
        raise ExtlinuxError(f"it has {len(labels)} labels, of which the loader reads {MOST_LABELS}")
    if len(set(defaults)) > 1:
        raise ExtlinuxError(f"it has several DEFAULT lines: {b', '.join(defaults).decode(errors='replace')}")
    wanted = defaults[0] if defaults else labels[0]
    if (count := labels.count(wanted)) != 1:
        raise ExtlinuxError(f"{count} labels are named {wanted.decode(errors='replace')}, which is the DEFAULT")
    return labels.index(wanted)


def _places(arguments: bytes, name: str) -> list[tuple[int, int]]:
    """Begin and end of a parameter: one pair, or none."""
    found = [match.span() for match in re.finditer(rb"[^ \t]+", arguments) if match[0].startswith(f"{name}=".encode())]
    if len(found) > 1:
        raise ExtlinuxError(f"the APPEND line has {name}= {len(found)} times")
    return found


def why_not(path: Path) -> str:
    """Returns the reason why a file may not be changed; empty where it may."""
    if path.is_symlink():
        return "it is a link"
    if not path.is_file():
        return "it is not there: this board is booted otherwise"
    if path.with_name(path.name + SIGNATURE).exists():
        return f"it is signed ({path.name}{SIGNATURE}), and a board with secure boot would not start with another"
    return ""


def change_file(path: Path, name: str, value: str) -> Path | None:
    """Sets a parameter in a file, completely or not at all, and keeps the old file beside it.

    Args:
        path: of the file.
        name: name of the parameter.
        value: value of the parameter.

    Returns:
        Path of the old file; None where nothing had to be changed.

    Raises:
        ExtlinuxError: it may not be changed, or is not understood.
        OSError: it cannot be written.
    """
    if reason := why_not(path):
        raise ExtlinuxError(f"{path} is left as it is: {reason}")
    before = path.read_bytes()
    try:
        after = set_parameter(before, name, value)
    except ExtlinuxError as error:
        raise ExtlinuxError(f"{path} is left as it is: {error}") from None
    if after == before:
        return None
    backup = _backup_name(path, name, before)
    write_whole(backup, before, like=path)
    write_whole(path, after, like=path)
    return backup


def _backup_name(path: Path, name: str, content: bytes) -> Path:
    """A name that is free, or that of a file with the same content: no backup is overwritten."""
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.before-{name}" + (f".{number}" if number > 1 else ""))
        if not backup.exists() or backup.read_bytes() == content:
            return backup
        number += 1


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="extlinux.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("parameter", metavar="NAME=VALUE", help="such as cma=950M")
    self.add_argument("--file", default=FILE, help="default: %(default)s")
    return self


def _change(options: argparse.Namespace) -> None:
    found = PARAMETER.fullmatch(options.parameter)
    if not found:
        raise UserError(f"{options.parameter} is not NAME=VALUE, such as cma=950M")
    path = user_path(options.file)
    backup = change_file(path, found[1], found[2])
    if backup is None:
        print(f"{path} has {options.parameter} already: nothing was changed")
        return
    print(f"{path} has {options.parameter} now, which counts from the next start: sudo reboot")
    print(f"way back: {shlex.join(['sudo', 'mv', str(backup), str(path)])}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit status 0, 2 for a file that is left unchanged."""
    run_command(parser(), _change, arguments)


if __name__ == "__main__":
    main()
