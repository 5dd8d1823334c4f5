"""Talks to an engine bundle: one question, or a conversation when no --prompt is given.

    python runtime/chat.py --engine DIR --image photo.jpg --prompt "What is in the picture?"
    python runtime/chat.py --engine DIR --image photo.jpg --prompt "Is the door open?" --choices Yes,No
    python runtime/chat.py --engine DIR

The answer goes to stdout, statistics and progress to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from mobilevlm.commands import command, run_command
from mobilevlm.engines.scrub import add_scrub
from mobilevlm.engines.trust import add_trust
from mobilevlm.errors import UserError, user_path
from mobilevlm.json_files import read_json
from mobilevlm.runtime.sampling import Sampling
from mobilevlm.text.prompt import TEMPLATES

if TYPE_CHECKING:  # ONNX Runtime, which `--help` should not wait for
    from mobilevlm.runtime.session import Session


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="chat.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = command("export/build_engines.py")
    self.add_argument("--engine", required=True, metavar="DIR", help=f"the bundle, made by {build}")
    add_trust(self)
    self.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture; give it again for more")
    self.add_argument(
        "--max-pixels", type=int, metavar="N",
        help="largest picture; without it, those are refused that take more than some 2 s or 400 MB to decode",
    )  # fmt: skip
    self.add_argument("--prompt", metavar="TEXT", help="the question; without it a conversation begins")
    self.add_argument("--conv-mode", choices=TEMPLATES, help="conversation template (default: the model's own)")
    self.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 takes the likeliest token (default)"
    )
    self.add_argument("--top-p", type=float, metavar="P", help="sample from the likeliest tokens of this total mass")
    self.add_argument("--top-k", type=int, metavar="K", help="sample from this many of the likeliest tokens")
    self.add_argument(
        "--min-p", type=float, metavar="M", help="sample from tokens at least M times as likely as the first"
    )
    self.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 discourages repetition"
    )
    self.add_argument("--max-new-tokens", type=int, default=512, metavar="N", help="longest answer (default: 512)")
    self.add_argument("--seed", type=int, metavar="N", help="makes sampling reproducible")
    self.add_argument(
        "--choices", metavar="A,B,…", help="a closed question: print the probability of each of these answers"
    )
    self.add_argument(
        "--abstain", type=float, metavar="P", help="no answer where no choice has this probability (default: bundle's)"
    )
    self.add_argument(
        "--prefix", metavar="FILE", help="load what this file keeps of system prompt and pictures; make it if missing"
    )
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    self.add_argument(
        "--no-check", action="store_true", help="do not run the bundle's sample when it is new on this machine"
    )
    add_scrub(self)
    self.add_argument("--verbose", action="store_true", help="say what this CPU is and how the stages compare here")
    self.add_argument("--json-schema", metavar="FILE", help="answer with a JSON document that follows this schema")
    self.add_argument("--json", action="store_true", help="print the answer as JSON, with its tokens and statistics")
    return self


def chat(arguments: argparse.Namespace) -> None:
    """Answers `--prompt`, or holds a conversation.

    Raises:
        UserError: see `Session`; or options that contradict each other.
    """
    if arguments.json and arguments.prompt is None:
        raise UserError("--json needs --prompt: a conversation has no single answer")
    if arguments.json_schema and arguments.prompt is None:
        raise UserError("--json-schema needs --prompt: a conversation is held in words")
    if arguments.prompt is not None and not arguments.prompt.strip():
        raise UserError("--prompt is empty: say what you want to know")
    if arguments.max_pixels is not None and arguments.max_pixels < 1:
        raise UserError(f"--max-pixels is {arguments.max_pixels}; it has to be at least 1")
    if arguments.choices is not None and arguments.prompt is None:
        raise UserError("--choices needs --prompt: they are the answers to one question")
    if arguments.abstain is not None and arguments.choices is None:
        raise UserError("--abstain needs --choices: an answer that is generated has no probability")
    sampling = Sampling(
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        seed=arguments.seed,
    )
    if arguments.choices is not None and sampling != Sampling():
        raise UserError("--choices samples nothing: leave temperature, top-p, top-k, repetition penalty and seed away")
    from mobilevlm.runtime.prefix_cache import PREFIX_CACHE_BYTES
    from mobilevlm.runtime.session import Session

    _status(f"opening {arguments.engine}")
    size = PREFIX_CACHE_BYTES if arguments.prefix else 0
    limits = {"trust": arguments.trust, "max_pixels": arguments.max_pixels, "prefix_cache_bytes": size}
    limits["scrub"] = not arguments.no_scrub
    with Session(arguments.engine, on_cpu=arguments.on_cpu, check=not arguments.no_check, **limits) as session:
        _status("")
        if arguments.prefix:
            _load_or_save(session, arguments)
        if arguments.verbose:
            _describe(session)
        if arguments.prompt is None:
            from mobilevlm.runtime.console import Console

            Console(session, arguments.conv_mode, sampling, arguments.max_new_tokens, arguments.image).run()
        elif arguments.choices is not None:
            _choose_once(session, arguments)
        else:
            _answer_once(session, arguments, sampling)


def _describe(session: Session) -> None:
    """Says on stderr what runs the bundle, and on what."""
    from mobilevlm.engines.machine import fingerprint
    from mobilevlm.engines.stages import PREFILL

    manifest = session.bundle.manifest
    precisions = ", ".join(f"{stage} {name}" for stage, name in manifest.precision.items())
    print(f"bundle: {manifest.name} for {manifest.target}, {precisions}", file=sys.stderr)
    for name, value in fingerprint().items():
        there = manifest.machine.get(name)
        print(f"{name}: {value}" + (f" (built with {there})" if there not in (None, value) else ""), file=sys.stderr)
    if session.prompts_by != PREFILL and PREFILL in manifest.precision:
        print("prompts: run by the decoder, for want of memory for the prefill", file=sys.stderr)
    for stage, tensors in manifest.verification.items():
        if not stage.endswith((".form", ".unrounded")):
            figures = ", ".join(f"{tensor} {one['snr_db']:.1f} dB" for tensor, one in tensors.items())
            print(f"stage {stage} against PyTorch, at the build: {figures}", file=sys.stderr)


def _load_or_save(session: Session, arguments: argparse.Namespace) -> None:
    """Loads `--prefix`, or saves system prompt and images to it.

    Raises:
        UserError: it is refused, or there is nothing to save.
    """
    path = user_path(arguments.prefix)
    if path.exists():
        session.load_prefix(path)
        return
    _status("computing the prefix")
    images = session.read_images(arguments.image)
    conversation = session.conversation(arguments.conv_mode)
    conversation.ask("", len(images))
    tokens = session.save_prefix(path, conversation, images)
    _status("")
    print(f"{path}: {tokens} tokens, {path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def _status(text: str) -> None:
    """Says at a terminal what is being waited for, on a line that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _answer_once(session: Session, arguments: argparse.Namespace, sampling: Sampling) -> None:
    schema = read_json(user_path(arguments.json_schema)) if arguments.json_schema else None
    _status("reading the question" + " and the picture" * bool(arguments.image))
    reply = session.chat(
        arguments.prompt,
        arguments.image,
        conv_mode=arguments.conv_mode,
        sampling=sampling,
        max_new_tokens=arguments.max_new_tokens,
        schema=schema,
    )
    for number, piece in enumerate(reply):
        if number == 0:
            _status("")
        if not arguments.json and schema is None:
            print(piece, end="", flush=True)
    if arguments.json:
        fields = {"answer": reply.text, "tokens": reply.tokens, "finish": reply.finish}
        figures = asdict(reply.statistics) if reply.statistics else None
        print(json.dumps(fields | {"statistics": figures}, ensure_ascii=False))
    elif schema is not None and reply.finish != "stop":
        raise UserError(
            f"{len(reply.tokens)} tokens are too few for a document of {arguments.json_schema}: "
            "give a larger --max-new-tokens, or a smaller schema"
        )
    else:
        print("" if schema is None else reply.text)
        print(reply.statistics, file=sys.stderr)


def _choose_once(session: Session, arguments: argparse.Namespace) -> None:
    _status("reading the question" + " and the picture" * bool(arguments.image))
    choice = session.choose(
        arguments.prompt,
        [text.strip() for text in arguments.choices.split(",")],
        arguments.image,
        conv_mode=arguments.conv_mode,
        abstain=arguments.abstain,
    )
    _status("")
    if arguments.json:
        print(json.dumps(asdict(choice), ensure_ascii=False))
        return
    for text, probability in zip(choice.choices, choice.probabilities, strict=True):
        print(f"{probability:.4f}  {text}")
    print(choice.answer if choice.answer is not None else "no answer: no choice is likely enough")
    print(choice.statistics, file=sys.stderr)


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), chat)


if __name__ == "__main__":
    main()
