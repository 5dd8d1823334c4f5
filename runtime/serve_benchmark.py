"""Measures the server: what it adds to a session, and how it answers many clients at once.

    python runtime/serve_benchmark.py --engine DIR --image photo.jpg
    python runtime/serve_benchmark.py --engine DIR --image photo.jpg --clients 1 4 16 32 --seconds 120 --plot load.png

A server of the bundle is started and stopped. First a session in this process and the server answer in turns (`ratio`
is server by session, 95 % interval over rounds); then clients ask for some seconds each. Every answer is compared with
the one that was given alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from mobilevlm.commands import is_clone, run_command
from mobilevlm.errors import UserError
from mobilevlm.runtime.bench.ratios import paired_ratio
from mobilevlm.runtime.bench.server_clients import Answered, Client, ask_at_once, data_url

QUESTIONS = ("What color is the circle?", "How many shapes are there?", "Describe the image.", "Is there a star?")


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="serve_benchmark.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--engine", required=True, metavar="DIR", help="the bundle")
    self.add_argument("--image", required=True, metavar="FILE", help="a picture that the questions are about")
    self.add_argument("--ask", action="append", metavar="TEXT", help="a question; give it again for more")
    self.add_argument("--rounds", type=int, default=12, metavar="N", help="rounds of server and session (default: 12)")
    self.add_argument(
        "--openings", type=int, default=4, metavar="N", help="both are opened so often for the rounds (default: 4)"
    )
    self.add_argument(
        "--clients", type=int, nargs="*", default=[1, 4, 16, 32], metavar="N", help="(default: 1 4 16 32)"
    )
    self.add_argument("--seconds", type=float, default=30, metavar="S", help="for each number of clients (default: 30)")
    self.add_argument("--max-new-tokens", type=int, default=64, metavar="N", help="longest answer (default: 64)")
    self.add_argument("--plot", metavar="FILE", help="a picture of times and rates by clients (matplotlib)")
    return self


def measure(arguments: argparse.Namespace) -> None:
    """Prints the tables.

    Raises:
        UserError: the picture or the bundle cannot be used.
    """
    image = Path(arguments.image)
    if not image.is_file():
        raise UserError(f"--image {image} is no file")
    if arguments.openings < 1 or arguments.rounds < 0:
        raise UserError(f"--openings {arguments.openings} --rounds {arguments.rounds}: 1 and 0 are the least")
    questions = arguments.ask or QUESTIONS
    if arguments.rounds:
        _overhead(arguments, image, questions[0])
    if not arguments.clients:
        return
    with _server(arguments.engine) as (url, process):
        alone = {one: Client(url, data_url(image), arguments.max_new_tokens).ask(one).text for one in questions}
        rows = []
        print("| clients | answers | wrong | errors | asked to wait | TTFT p50, s | TTFT p95, s | in the queue p50, s |"
              " answers/s | tokens/s of an answer | memory, MiB |\n" + "|---" * 11 + "|")  # fmt: skip
        for count in arguments.clients:
            begin = time.monotonic()
            answered = ask_at_once(url, data_url(image), questions, count, arguments.seconds, arguments.max_new_tokens)
            rows.append(_row(count, answered, alone, time.monotonic() - begin, _memory_mib(process.pid)))
            print(_line(rows[-1]), flush=True)
    if arguments.plot:
        _plot(rows, arguments.plot)


@contextmanager
def _server(engine: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    # An installed script started as a file would have this package's modules on the path by their bare names.
    script = [str(Path(__file__).with_name("serve.py"))] if is_clone() else ["-m", "mobilevlm.runtime.serve"]
    words = [sys.executable, *script, "--engine", engine, "--port", "0", "--max-queue", "64"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"serving (\S+)", line):
                yield found[1], process
                return
        raise UserError("the server did not start: " + "".join(said).strip())
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def _overhead(arguments: argparse.Namespace, image: Path, question: str) -> None:
    """Prints times of the server by those of a session, in turns.

    Where weights come to lie in memory makes some percent of a time: of two sessions, the one opened first was the
    slower. So both are opened several times, in turns.
    """
    openings = min(arguments.openings, arguments.rounds)
    figures = [
        pair
        for opening in range(openings)
        for pair in _opened_once(arguments, image, question, opening, -(-arguments.rounds // openings))
    ]
    times = np.array(figures) * 1e3
    for name, column in (("TTFT", 0), ("whole answer", 1)):
        by_server, by_session = times[:, column], times[:, column + 2]
        found = paired_ratio(name, by_session.tolist(), by_server.tolist())
        print(
            f"{name}: server {np.median(by_server):.1f} ms, session {np.median(by_session):.1f} ms, "
            f"ratio {found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})",
            flush=True,
        )


def _opened_once(
    arguments: argparse.Namespace, image: Path, question: str, opening: int, rounds: int
) -> list[list[float]]:
    """Seconds to the first token and to the end, of the server and of a session, for each round."""
    from mobilevlm.runtime.prefix_cache import PREFIX_CACHE_BYTES
    from mobilevlm.runtime.server.engine_process import IDLE_SECONDS
    from mobilevlm.runtime.session import Session

    figures = []
    with ExitStack() as stack:
        if is_server_first := bool(opening % 2):
            url, _ = stack.enter_context(_server(arguments.engine))
        session = stack.enter_context(Session(arguments.engine, prefix_cache_bytes=PREFIX_CACHE_BYTES))  # as the server
        if not is_server_first:
            url, _ = stack.enter_context(_server(arguments.engine))
        client = Client(url, data_url(image), arguments.max_new_tokens)
        for number in range(rounds + 1):
            pair: dict[bool, list[float]] = {}
            for served in (True, False) if number % 2 else (False, True):
                time.sleep(IDLE_SECONDS + 1)  # until the engine has kept the beginning of a next turn
                text = f"{question} ({number})"  # a new prompt behind the same picture: both prefill alike
                begin = time.perf_counter()
                if served:
                    first = client.ask(text).ttft_s
                else:
                    pieces = iter(session.chat(text, image.read_bytes(), max_new_tokens=arguments.max_new_tokens))
                    next(pieces, None)
                    first = time.perf_counter() - begin
                    for _ in pieces:
                        pass
                pair[served] = [first, time.perf_counter() - begin]
            if number:  # the first round encodes the picture
                figures.append(pair[True] + pair[False])
    return figures


def _row(
    count: int, answered: Sequence[Answered], alone: dict[str, str], seconds: float, memory: float
) -> dict[str, float]:
    good = [one for one in answered if one.status == 200]
    waited = np.array([one.ttft_s - one.engine_ttft_s for one in good] or [0.0])
    ttft, rates = (
        np.array([one.ttft_s for one in good] or [0.0]),
        [one.tokens_per_s for one in good if one.tokens_per_s],
    )
    return {
        "clients": count,
        "answers": len(good),
        "wrong": sum(one.text != alone[one.question] for one in good),
        "errors": sum(one.status not in (200, 429) for one in answered),
        "busy": sum(one.status == 429 for one in answered),
        "ttft": float(np.median(ttft)),
        "ttft95": float(np.quantile(ttft, 0.95)),
        "queue": float(np.median(waited)),
        "answers_s": len(good) / seconds,
        "tokens_s": float(np.median(rates)) if rates else 0.0,
        "memory": memory,
    }


def _line(row: dict[str, float]) -> str:
    counts = " | ".join(f"{row[name]:.0f}" for name in ("clients", "answers", "wrong", "errors", "busy"))
    times = " | ".join(f"{row[name]:.3f}" for name in ("ttft", "ttft95", "queue"))
    return f"| {counts} | {times} | {row['answers_s']:.1f} | {row['tokens_s']:.0f} | {row['memory']:.0f} |"


def _memory_mib(pid: int) -> float:
    """Returns the resident memory of the server and its engine; 0 where /proc is not there."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = [Path(f"/proc/{one}/status").read_text() for one in (pid, *children)]
    except OSError:
        return 0.0
    return sum(int(found[1]) for text in status if (found := re.search(r"VmRSS:\s+(\d+)", text))) / 1024


def _plot(rows: Sequence[dict[str, float]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    clients = [row["clients"] for row in rows]
    for name, label in (("ttft", "TTFT, median"), ("ttft95", "TTFT, 95 %"), ("queue", "in the queue, median")):
        left.plot(clients, [row[name] for row in rows], marker="o", label=label)
    right.plot(clients, [row["tokens_s"] for row in rows], marker="o", label="tokens/s of an answer")
    left.set(xlabel="clients", ylabel="seconds", ylim=(0, None))
    right.set(xlabel="clients", ylabel="tokens/s", ylim=(0, None))
    left.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), measure)


if __name__ == "__main__":
    main()
