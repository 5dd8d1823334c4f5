"""Runs a bundle's sample on this machine and compares with PyTorch and with what the build's own stages gave.

    python runtime/verify.py --engine DIR

A bundle does this by itself the first time it is opened on a machine; here are all figures, and the answer's tokens.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import load_file

from mobilevlm.commands import run_command
from mobilevlm.engines.cpu import this_cpu
from mobilevlm.engines.stages import GOLDEN_FILE, PIXEL_VALUES
from mobilevlm.engines.targets import TARGETS, TENSORRT
from mobilevlm.errors import UserError
from mobilevlm.prompt import IMAGE_TOKEN_INDEX
from mobilevlm.runtime.self_check import Finding, require, run_sample
from mobilevlm.runtime.session import Session


def verify(session: Session) -> tuple[list[Finding], int, int]:
    """Run the sample.

    Returns:
        What was compared, how many of the answer's tokens are PyTorch's with the picture as it is encoded here, and of
        how many.
    """
    bundle, runner = session.bundle, session._runner
    found = run_sample(bundle, runner, session._rows)
    golden, embeds = load_file(bundle.path(GOLDEN_FILE)), None
    if bundle.has_vision:
        embeds = np.asarray(runner.encode_image(golden[PIXEL_VALUES]))
    rows = [embeds if token == IMAGE_TOKEN_INDEX else session._rows(int(token)) for token in golden["input_ids"]]
    prompt = np.concatenate(rows)
    chosen = [int(runner.decode(prompt, 0).argmax())]
    # What PyTorch followed, too: where the written decoder chose another token, its own would lead elsewhere.
    answer = golden.get("answer", golden["tokens"][:-1])  # a bundle of an older version does not say
    for number, token in enumerate(answer):
        chosen.append(int(runner.decode(session._rows(int(token)), len(prompt) + number).argmax()))
    return found, int((np.array(chosen) == golden["tokens"]).sum()), len(golden["tokens"])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="verify.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--engine", required=True, metavar="DIR", help="the bundle, made by export/build_engines.py")
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    return self


def _verify(options: argparse.Namespace) -> None:
    with Session(options.engine, on_cpu=options.on_cpu, check=False) as session:
        found, same, of = verify(session)
        bundle = session.bundle
    print(f"cpu: {this_cpu()}")
    for finding in found:
        print(finding)
    print(f"tokens: {same} of {of} are PyTorch's")
    target = TARGETS.get(bundle.manifest.target)
    if target is not None and target.backend == TENSORRT and not all(finding.is_good for finding in found):
        print(
            f"If it was compiled here, do it again: delete its .engine files and timing.cache, then python "
            f"engines/compile.py {options.engine}",
            file=sys.stderr,
        )
    require(bundle, found)
    if not found:
        raise UserError(f"{options.engine} is of a version that recorded no figures: {bundle.manifest.command}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run_command(parser(), _verify, arguments)


if __name__ == "__main__":
    main()
