"""Engines belong to the process that opened them: a forked child has their memory, but none of their threads.

There it would wait forever for a thread to compute, or to end when it frees them; a GPU's memory is not even there.
"""

from __future__ import annotations

import ctypes
import os
from weakref import WeakSet

from mobilevlm.errors import UserError

_opened: WeakSet[object] = WeakSet()


class OneProcess:
    """The process that opened something which a child can neither use nor free.

    Args:
        opened: it; in children it stays in memory as long as they live.
    """

    def __init__(self, opened: object):
        self._process = os.getpid()
        _opened.add(opened)

    @property
    def is_this(self) -> bool:
        """Whether this is the process."""
        return os.getpid() == self._process

    def require(self) -> None:
        """Refuses a forked child.

        Raises:
            UserError: this is one.
        """
        if not self.is_this:
            raise UserError(
                f"this session was opened in process {self._process} and cannot be used in its child {os.getpid()}: "
                "open a session in the child, or start it by multiprocessing.get_context('spawn')"
            )


def _keep_in_child() -> None:
    """Lets a child end without freeing what was opened, which would wait for the parent's threads."""
    if not _opened:
        return
    for one in _opened:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))  # a reference that nobody takes away
    # ONNX Runtime waits for its threads when a process ends, too: leave it before that, when Python has done its part.
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):  # glibc's
        library.on_exit(library["_exit"], None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_keep_in_child)
