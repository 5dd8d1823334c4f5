"""Objects in processes of their own that work is sent to; none outlives the `with` block that it was made in."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from mobilevlm.errors import UserError
from mobilevlm.refusals import refusal_of

DONE, REFUSED, FAILED = "done", "refused", "failed"

Object = TypeVar("Object")
Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")


class Worker(Generic[Object]):
    """A process that makes an object and calls functions on it.

    Args:
        name: what the process does, for messages.
        make: makes the object, in the process; importable.
        arguments: of `make`; picklable.

    Attributes:
        name: as above.
    """

    def __init__(self, name: str, make: Callable[..., Object], *arguments: Any):
        """Starts the process."""
        self.name = name
        # Not forked: a copy of this process would begin with its memory and its threads' locks.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        with _without_ctrl_c():
            self._process.start()
        theirs.close()

    def __enter__(self) -> Worker[Object]:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._connection.close()

    def call(
        self,
        function: Callable[Concatenate[Object, Arguments], Value],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Value:
        """Calls a function in the process, with its object as the first argument.

        Args:
            function: importable.
            arguments: of the function, behind the object; picklable.
            named: the same, by name.

        Returns:
            What the function returns.

        Raises:
            UserError: the object raised one, or its process was ended from outside.
            RuntimeError: it raised something else; the message is its traceback.
        """
        try:
            self._connection.send((function, arguments, named))
            outcome, value = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise UserError(
                f"the process that measures {self.name} was ended (exit status {self._process.exitcode}), most likely "
                "for want of memory: close other programs, or build the bundle with fewer bits (--precision) or a "
                "smaller --max-context"
            ) from None
        if outcome == REFUSED:
            raise UserError(value)
        if outcome == FAILED:
            raise RuntimeError(f"in the process that measures {self.name}:\n{value}")
        return value


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ignores Ctrl-C in the block: a process started there ignores it from the start (on Windows: see `_serve`)."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(connection: Connection, make: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Serves calls until the other end of the connection is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches every process; the one that started us ends us
    made = None
    while True:
        try:
            function, values, named = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            made = make(*arguments) if made is None else made
            reply = (DONE, function(made, *values, **named))
        except UserError as error:
            reply = (REFUSED, str(error))
        except Exception as error:
            sentence = refusal_of(error)
            reply = (FAILED, traceback.format_exc()) if sentence is None else (REFUSED, sentence)
        try:
            connection.send(reply)
        except ConnectionError:
            return
