"""Writes a file whole or not at all: whoever opens it sees the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import time
from pathlib import Path

SUFFIX = ".partial"  # of the temporary file
ABANDONED = 60.0  # seconds from which on a temporary file is not being written any more
NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of file systems that write folders on their own account


def write_whole(path: Path, content: bytes | memoryview, like: Path | None = None, shared: bool = False) -> None:
    """Writes a temporary file beside `path`, puts it on the disk, then renames it to `path`.

    The temporary file is removed when writing fails or is interrupted. A killed process leaves it behind, and the next
    call writes over it; with `shared`, calls from `ABANDONED` seconds on remove it.

    Args:
        path: the file to write or replace.
        content: all that the file will hold.
        like: file whose owner and mode the new one gets; None for those of any new file.
        shared: whether several processes may write this file at a time: the temporary file has the process id in its
            name then.

    Raises:
        OSError: the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}{SUFFIX}" if shared else path.name + SUFFIX)
    if shared:
        _remove_abandoned(path)
    try:
        if partial.is_symlink() or partial.exists() and not partial.is_file():
            partial.unlink()  # put there by somebody else: a link would be written through, a FIFO waits for a reader
        with partial.open("wb") as file:
            file.write(content)
            if like is not None:
                known = like.stat()
                os.fchown(file.fileno(), known.st_uid, known.st_gid)
                os.fchmod(file.fileno(), known.st_mode & 0o7777)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:  # Ctrl-C and SIGTERM (`commands.run_command`), too
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # the system does not say which file it could not write
        raise
    _sync_folder(path.parent)


def is_alive(pid: int) -> bool:
    """Tells whether a process of this machine, or of this container, is running."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove_abandoned(path: Path) -> None:
    """Removes temporary files that killed processes left of a file; a process may be one of another container."""
    if os.name != "posix":
        return
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{SUFFIX}"):
        number = left.name.removeprefix(f"{path.name}.").removesuffix(SUFFIX)
        with contextlib.suppress(OSError):
            if number.isdecimal() and not is_alive(int(number)) and time.time() - left.lstat().st_mtime > ABANDONED:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Puts the new name on the disk, where folders can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
