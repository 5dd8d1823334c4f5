r"""Watches a camera, a video or a network stream, and tells when the answer to a question changes.

    python runtime/watch.py --engine DIR --source 0 --ask "Is the door open?" --choices yes,no
    python runtime/watch.py --engine DIR --source rtsp://HOST/stream --ask "Is anybody there?" --choices yes,no \
        --hold 3 --mqtt mqtt://BROKER/house/door

Events go to stdout as lines of JSON, or where the options say; what happens to the source goes to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from mobilevlm.commands import command, run_command
from mobilevlm.engines.scrub import add_scrub
from mobilevlm.engines.trust import add_trust
from mobilevlm.errors import UserError, user_path
from mobilevlm.text.prompt import TEMPLATES

if TYPE_CHECKING:
    from mobilevlm.runtime.camera.event import Event
    from mobilevlm.runtime.camera.frames import Frame, Source
    from mobilevlm.runtime.camera.watcher import Watcher
    from mobilevlm.runtime.session import Session


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="watch.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = command("export/build_engines.py")
    self.add_argument("--engine", required=True, metavar="DIR", help=f"the bundle, made by {build}")
    add_trust(self)
    self.add_argument(
        "--source", required=True, help="a camera's number or device, a video, a URL, or a GStreamer pipeline"
    )
    self.add_argument("--ask", required=True, metavar="QUESTION", help="the question")
    self.add_argument("--choices", metavar="A,B", help="the answers that are possible; without them any answer is")
    self.add_argument("--hold", type=int, default=1, metavar="N", help="equal answers that make a change (default: 1)")
    self.add_argument(
        "--margin", type=float, default=0.0, metavar="P", help="answers whose choice is not likelier by P do not count"
    )
    self.add_argument(
        "--at-least-every", type=float, metavar="SECONDS", help="ask after this time though nothing has changed"
    )
    self.add_argument("--every-frame", action="store_true", help="of a video take every frame, as fast as they go")
    self.add_argument("--no-gate", action="store_true", help="ask about every frame, changed or not")
    self.add_argument(
        "--threshold", type=float, metavar="V", help="difference of a cell that counts, of 255 (see docs/watch.md)"
    )
    self.add_argument("--out", metavar="FILE", help="append events to this file instead of stdout")
    self.add_argument("--webhook", metavar="URL", help="POST events to this address, too")
    self.add_argument("--mqtt", metavar="mqtt://HOST/TOPIC", help="publish events there, too")
    self.add_argument("--conv-mode", choices=TEMPLATES, help="conversation template (default: the model's own)")
    self.add_argument("--max-new-tokens", type=int, default=48, metavar="N", help="longest free answer (default: 48)")
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    add_scrub(self)
    return self


def watch(arguments: argparse.Namespace) -> None:
    """Watches the source until it ends, or Ctrl-C.

    Raises:
        UserError: see `Session`; a source that cannot be opened; or options that contradict each other.
    """
    if not arguments.ask.strip():
        raise UserError("--ask is empty: say what you want to know")
    if arguments.margin and not arguments.choices:
        raise UserError("--margin needs --choices: a free answer has no probability")
    from mobilevlm.runtime.camera.answer import choices_of
    from mobilevlm.runtime.camera.sources import source_of

    choices = choices_of(arguments.choices)
    source = source_of(arguments.source)
    if arguments.every_frame and source.is_live:
        raise UserError("--every-frame is for a video: a camera goes on while an answer is made")
    from mobilevlm.runtime.session import Session

    with ExitStack() as stack:
        sinks = stack.enter_context(sinks_of(arguments))
        options = {"on_cpu": arguments.on_cpu, "trust": arguments.trust, "scrub": not arguments.no_scrub}
        session = stack.enter_context(Session(arguments.engine, **options))
        watcher = watcher_of(arguments, session, choices, sinks)
        stack.callback(_summarise, watcher)
        for frame in stack.enter_context(frames_of(source, arguments.every_frame)):
            watcher.see(frame)


def watcher_of(
    arguments: argparse.Namespace, session: Session, choices: Sequence[str], sinks: Iterable[Callable[[Event], object]]
) -> Watcher:
    """Returns the watcher that the options describe.

    Args:
        arguments: the parsed command line.
        session: answers the question.
        choices: the answers that are possible; none for any.
        sinks: get the events.
    """
    from mobilevlm.runtime.camera.answer import ask
    from mobilevlm.runtime.camera.change_gate import ChangeGate, GateLimits
    from mobilevlm.runtime.camera.hysteresis import Hysteresis
    from mobilevlm.runtime.camera.watcher import Watcher

    limits = GateLimits() if arguments.threshold is None else GateLimits(threshold=arguments.threshold)
    options = {"conv_mode": arguments.conv_mode, "max_new_tokens": arguments.max_new_tokens}
    return Watcher(
        lambda image: ask(session, arguments.ask, image, choices, **options),
        arguments.ask,
        gate=None if arguments.no_gate else ChangeGate(limits),
        hysteresis=Hysteresis(arguments.hold, arguments.margin),
        sinks=sinks,
        at_least_every_s=arguments.at_least_every,
    )


@contextmanager
def sinks_of(arguments: argparse.Namespace) -> Iterator[list[Callable[[Event], object]]]:
    """Opens where events go; on leaving, what is waiting is sent."""
    from mobilevlm.runtime.camera.event import JsonLines
    from mobilevlm.runtime.camera.mqtt import Mqtt
    from mobilevlm.runtime.camera.webhook import Webhook

    with ExitStack() as stack:
        stream = sys.stdout
        if arguments.out is not None:
            stream = stack.enter_context(open(user_path(arguments.out), "a", encoding="utf-8"))
        sinks: list[Callable[[Event], object]] = [JsonLines(stream)]
        if arguments.webhook is not None:
            sinks.append(stack.enter_context(Webhook(arguments.webhook, _note)))
        if arguments.mqtt is not None:
            sinks.append(stack.enter_context(Mqtt(arguments.mqtt, _note)))
        yield sinks


@contextmanager
def frames_of(source: Source, every_frame: bool) -> Iterator[Iterable[Frame]]:
    """Opens a source: all of its frames, or the newest one at any time.

    Args:
        source: what to read.
        every_frame: whether all frames of a video are yielded, as fast as they are taken.
    """
    from mobilevlm.runtime.camera.frames import NewestFrame

    if every_frame:
        with closing(source.frames()) as frames:
            yield frames
    else:
        with NewestFrame(source, _note) as newest:
            yield newest


def _summarise(watcher: Watcher) -> None:
    """Says what a watcher did, if it saw anything."""
    counts = watcher.counts
    if not counts.seen:
        return
    per_frame, per_answer = counts.gate_s / max(1, counts.seen), counts.answer_s / max(1, counts.asked)
    _note(
        f"{counts.seen} frames, {counts.asked} asked about, {counts.events} events; CPU time {per_answer * 1e3:.1f} ms "
        f"an answer, {per_frame * 1e3:.3f} ms a comparison"
    )


def main() -> None:
    """Entry point: exit status 0 when a video has ended, 130 after Ctrl-C, 2 for a mistake of the person's."""
    run_command(parser(), watch)


def _note(text: str) -> None:
    print(f"watch: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
