"""What the system or a package refuses a command - disk, memory, files, home - as a sentence with a remedy.

Only what is known to be the machine's doing is put into words; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from .errors import UserError

# Rust's and C++'s packages put the system's error number, or its words, into their own exceptions.
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy, whose OSError has no number
# torch's file of tensors names neither the file nor the cause.
_TORCH_WRITE = re.compile(r"PytorchStreamWriter failed|inline_container\.cc.*(unexpected pos|failed writing)")
_NO_MEMORY = re.compile(
    r"can't allocate memory|[Cc]annot allocate memory|not enough memory|[Ff]ailed to allocate|bad[_ ]alloc"
    r"|failed to map segment|Could not allocate|out of memory|allocation failed",
)
_NO_THREAD = re.compile(r"can't start new thread|Resource temporarily unavailable|pthread_create")
_OUT_OF_MEMORY, _OUT_OF_THREADS = "memory ran out", "no further thread or process may be started"
_NO_HOME = re.compile(r"Could not determine home directory|getpwuid\(\): uid not found|No username set")


def refusal_of(error: BaseException) -> str | None:
    """Returns one sentence on what the machine refused, or None for an error that is our own.

    Args:
        error: that ended a command.
    """
    if isinstance(error, MemoryError):
        return _no_memory()
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    text = str(error)
    if found := _OS_ERROR.search(text):
        number = int(found[1])
        return _of_system(OSError(number, os.strerror(number)))
    for known, sentence in _KNOWN.items():
        if known.search(text):
            return sentence()
    return None


def require_address_space(least: int, what: str) -> None:
    """Refuses to begin what would end in a C++ library's abort.

    Args:
        least: bytes of address space that it takes.
        what: takes them, for the message.

    Raises:
        UserError: this process may have less (`ulimit -v`).
    """
    most = _most_bytes()
    if most is not None and most < least:
        raise UserError(
            f"{_OUT_OF_MEMORY}{_limit()}: {what} takes {least / 1e6:,.0f} MB. `ulimit -v unlimited` before the command "
            "takes the limit away where it may be"
        )


def is_no_memory(error: BaseException) -> bool:
    """Whether memory, or room for another thread, ran out, or an error says that it did.

    Args:
        error: that ended a command.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOMEM, errno.EAGAIN)
    text = str(error)
    told = any(words in text for words in (_OUT_OF_MEMORY, _OUT_OF_THREADS))
    return told or isinstance(error, MemoryError) or bool(_NO_MEMORY.search(text) or _NO_THREAD.search(text))


def _of_system(error: OSError) -> str:
    """Sentence on an error that has the system's number."""
    place = error.filename if error.filename is not None else "while writing"
    place = os.fsdecode(place) if isinstance(place, bytes) else place
    if "temporary directory" in str(error.strerror):
        return f"no folder for temporary files can be written ({error.strerror}): set TMPDIR to one that can"
    remedies: dict[int | None, Callable[[], str]] = {
        errno.ENOSPC: lambda: _full(place),
        errno.EDQUOT: lambda: _full(place),
        errno.EFBIG: lambda: (
            f"the file becomes larger than this process or its file system may write: {place}. "
            "`ulimit -f unlimited`, or another file system, takes it"
        ),
        errno.EMFILE: lambda: f"too many files are open: {place}. `ulimit -n 4096` allows more",
        errno.ENFILE: lambda: f"too many files are open on this machine: {place}. Close other programs",
        errno.ENOMEM: _no_memory,
        errno.EAGAIN: _no_thread,
        errno.EIO: lambda: (
            f"the disk cannot be read or written there (input/output error): {place}. The system's log "
            "(dmesg) names the disk; take the files from a copy on another one"
        ),
        errno.EROFS: lambda: f"the file system may only be read: {place}. Choose a place that can be written",
    }
    known = remedies.get(error.errno)
    return known() if known else f"{error.strerror}: {place}"


def _full(place: object = "while writing") -> str:
    return f"the disk is full: {place}. Make room, or choose a place with more, and give the same command again"


def _no_memory() -> str:
    return (
        f"{_OUT_OF_MEMORY}{_limit()}. Close other programs, or take less at a time: a bundle of a smaller --precision "
        "or --max-context, a smaller batch or image"
    )


def _limit() -> str:
    """The limit on a process's memory, where there is one."""
    most = _most_bytes()
    return "" if most is None else f" (this process may have {most / 1e6:,.0f} MB: ulimit -v)"


def _most_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if most == resource.RLIM_INFINITY else most


def _no_thread() -> str:
    return (
        f"{_OUT_OF_THREADS}{_limit()}: `ulimit -u` or the container's limit on processes or "
        "memory is reached. Raise it, or close other programs"
    )


def _no_home() -> str:
    return "this user has no home and no entry in /etc/passwd: set HOME and USER, for example HOME=/tmp USER=robot"


_KNOWN: dict[re.Pattern[str], Callable[[], str]] = {
    _CUT_SHORT: _full,
    _TORCH_WRITE: _full,
    _NO_MEMORY: _no_memory,
    _NO_THREAD: _no_thread,
    _NO_HOME: _no_home,
}
