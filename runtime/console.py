"""A conversation at the terminal: line editing, history, `/` commands; Ctrl-C stops the answer, not the program."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mobilevlm.errors import UserError, user_path

from .dialogue import Dialogue
from .question_lines import question_lines
from .sampling import Sampling
from .session import Session
from .statistics import Statistics

QUIT = ("/quit", "/exit")
HELP = """\
Type a question. Commands:
  /image FILE   show a picture with the next question (several: give it again)
  /reset        start a new conversation
  /stats        figures of the last answer
  /help         this text
  /quit         leave (or Ctrl-D)
Ctrl-C stops an answer."""


class Console:
    """A conversation read from stdin, at a terminal or from a pipe (one question a line).

    A person reads what was wrong and types on. A script's questions end at the first line that cannot be done: what
    follows might be about an image that is not there.

    Args:
        session: answers the questions.
        conv_mode: the conversation template; None for the model's own.
        sampling: how tokens are chosen.
        max_new_tokens: upper bound on an answer's length.
        images: names of files that go with the first question.
    """

    def __init__(
        self,
        session: Session,
        conv_mode: str | None,
        sampling: Sampling,
        max_new_tokens: int,
        images: Sequence[str] = (),
    ):
        self._dialogue, self._read_image = Dialogue(session, conv_mode), session.read_image
        self._sampling, self._max_new_tokens = sampling, max_new_tokens
        self._shown: list[np.ndarray] = []
        self._statistics: Statistics | None = None
        self._by_hand = sys.stdin is not None and sys.stdin.isatty()
        self._interactive = self._by_hand and sys.stdout is not None and sys.stdout.isatty()
        for image in images:
            self._show(image)

    def run(self) -> None:
        """Reads and answers until the end of input or `/quit`.

        Raises:
            UserError: of a line of a pipe, with its number.
        """
        if self._by_hand:
            self._talk()
        elif sys.stdin is not None:  # it was closed
            self._read_all()

    def _read_all(self) -> None:
        for number, line in question_lines(sys.stdin.buffer):
            if line.strip() in QUIT:
                break
            try:
                self._handle(line.strip())
            except UserError as error:
                raise UserError(f"line {number} of stdin: {error}") from None

    def _talk(self) -> None:
        if self._interactive:
            _enable_line_editing()
            _note("/image FILE shows a picture, /help lists the rest")
        while True:
            try:
                line = input("> " if self._interactive else "").strip()
            except EOFError:
                break
            except KeyboardInterrupt:
                _note("\n(/quit or Ctrl-D leaves)")
                continue
            if line in QUIT:
                break
            try:
                self._handle(line)
            except UserError as error:
                _note(str(error))
            except KeyboardInterrupt:  # while an image or a prompt was read
                _note("\n[stopped]")

    def _handle(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        if command == "/image":
            self._show(argument.strip())
        elif command == "/reset":
            self._dialogue.reset()
            self._shown = []
            _note("new conversation")
        elif command == "/stats":
            _note(str(self._statistics or "no answer yet"))
        elif command == "/help":
            _note(HELP)
        elif command.startswith("/") and "/" not in command[1:]:
            raise UserError(f"{command} is no command; /help lists them")
        elif line:
            self._answer(line)

    def _show(self, name: str) -> None:
        """Keeps an image for the next question; it is read now, so that a mistake shows now."""
        if not name:
            raise UserError("/image needs a file name")
        try:
            path = _as_dropped(name)
            self._shown.append(self._read_image(path))
        except OSError as error:  # a name too long, a directory that may not be entered
            raise UserError(f"{error.strerror}: {name[:200]}") from None
        _note(f"{path.name} goes with the next question")

    def _answer(self, question: str) -> None:
        shown, self._shown = self._shown, []
        reply = self._dialogue.ask(question, shown, sampling=self._sampling, max_new_tokens=self._max_new_tokens)
        pieces = iter(reply)
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pieces.close()
            _note(" [stopped]", end="")
        print(flush=True)
        self._statistics = reply.statistics


def _as_dropped(name: str) -> Path:
    """Returns a file name as typed or as a terminal writes it when a file is dropped: quoted, or spaces escaped."""
    path = user_path(name)
    if not path.exists():
        with contextlib.suppress(ValueError):  # unbalanced quotes
            words = shlex.split(name)
            path = user_path(words[0]) if len(words) == 1 else path
    return path


def _enable_line_editing() -> None:
    """Enables arrow keys, history, and file names after `/image ` by Tab, where the platform has readline."""
    try:
        import readline
    except ImportError:
        return
    import glob

    def complete(text: str, state: int) -> str | None:
        names = [name + "/" * Path(name).is_dir() for name in sorted(glob.glob(glob.escape(text) + "*"))]
        return names[state] if state < len(names) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


def _note(text: str, end: str = "\n") -> None:
    print(text, file=sys.stderr, end=end, flush=True)
