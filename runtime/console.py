"""A conversation at the terminal: line editing, history, `/` commands; Ctrl-C stops the answer, not the program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mobilevlm.errors import UserError
from mobilevlm.image import load_image

from .dialogue import Dialogue
from .sampling import Sampling
from .statistics import Statistics

if TYPE_CHECKING:
    from .session import Session

HELP = """\
Type a question. Commands:
  /image FILE   show a picture with the next question (several: give it again)
  /reset        start a new conversation
  /stats        figures of the last answer
  /help         this text
  /quit         leave (or Ctrl-D)
Ctrl-C stops an answer."""


class Console:
    """A conversation read from stdin, at a terminal or from a pipe (one question a line)."""

    def __init__(
        self, session: Session, conv_mode: str, sampling: Sampling, max_new_tokens: int, images: Sequence[str] = ()
    ):
        self._dialogue = Dialogue(session, conv_mode)
        self._takes_images = session.bundle.has_vision
        self._options = {"sampling": sampling, "max_new_tokens": max_new_tokens}
        self._shown: list[str] = []
        self._statistics: Statistics | None = None
        self._interactive = sys.stdin.isatty()
        for image in images:
            self._show(image)

    def run(self) -> None:
        """Read and answer until the end of input or `/quit`."""
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
            if line in ("/quit", "/exit"):
                break
            try:
                self._handle(line)
            except UserError as error:
                _note(str(error))

    def _handle(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        if command == "/image":
            self._show(argument.strip().strip("\"'"))
        elif command == "/reset":
            self._dialogue.reset()
            self._shown = []
            _note("new conversation")
        elif command == "/stats":
            _note(str(self._statistics or "no answer yet"))
        elif command == "/help":
            _note(HELP)
        elif command.startswith("/") and "/" not in command[1:]:
            _note(f"{command} is no command; /help lists them")
        elif line:
            self._answer(line)

    def _show(self, name: str) -> None:
        """Keep a picture for the next question; it is read now, so that a mistake shows now."""
        if not name:
            raise UserError("/image needs a file name")
        if not self._takes_images:
            raise UserError("this is a text-only model: it takes no image")
        path = Path(name).expanduser()
        load_image(path)
        self._shown.append(str(path))
        _note(f"{path.name} goes with the next question")

    def _answer(self, question: str) -> None:
        reply = self._dialogue.ask(question, self._shown, **self._options)
        self._shown = []
        pieces = iter(reply)
        try:
            for piece in pieces:
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            pieces.close()
            _note(" [stopped]", end="")
        print(flush=True)
        self._statistics = reply.statistics


def _enable_line_editing() -> None:
    """Arrow keys, history, and file names after `/image ` by Tab, where the platform has readline."""
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
