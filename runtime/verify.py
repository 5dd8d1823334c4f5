"""Runs a bundle's sample on this machine and compares with what PyTorch made of it when the bundle was built.

    python runtime/verify.py --engine DIR

What TensorRT compiled here has never run anywhere else: this is how to know that it computes what it should.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import load_file

from mobilevlm.commands import run_command
from mobilevlm.engines.stages import DECODER, GOLDEN_FILE, IMAGE_EMBEDS, LOGITS, PIXEL_VALUES, VISION
from mobilevlm.errors import UserError
from mobilevlm.prompt import IMAGE_TOKEN_INDEX
from mobilevlm.runtime.session import Session


@dataclass(frozen=True)
class Finding:
    """A tensor compared with PyTorch's.

    Attributes:
        tensor: its name.
        max_abs_diff: the largest difference; NaN when there is one in it.
        allowed: the largest that the build allowed its own graphs.
    """

    tensor: str
    max_abs_diff: float
    allowed: float

    @property
    def is_good(self) -> bool:
        """Whether it is within what is allowed; NaN is not."""
        return self.max_abs_diff <= self.allowed

    def __str__(self) -> str:
        return f"{self.tensor}: max difference {self.max_abs_diff:.3g} from PyTorch, allowed {self.allowed:.3g}"


def verify(session: Session) -> tuple[list[Finding], int, int]:
    """Run the sample.

    Returns:
        What was compared, how many tokens are the same as PyTorch's, and of how many.
    """
    bundle, runner = session.bundle, session._runner
    golden = load_file(bundle.path(GOLDEN_FILE))
    found, embeds = [], None
    if bundle.has_vision:
        embeds = np.asarray(runner.encode_image(golden[PIXEL_VALUES]))
        found.append(_finding(session, VISION, IMAGE_EMBEDS, embeds, golden[IMAGE_EMBEDS][0]))
    rows = [embeds if token == IMAGE_TOKEN_INDEX else session._rows(int(token)) for token in golden["input_ids"]]
    prompt = np.concatenate(rows)
    logits = [runner.decode(prompt, 0).copy()]
    # What PyTorch followed, too: where the written decoder chose another token, its own would lead elsewhere.
    answer = golden.get("answer", golden["tokens"][:-1])  # a bundle of an older version does not say
    for number, token in enumerate(answer):
        logits.append(runner.decode(session._rows(int(token)), len(prompt) + number).copy())
    found.append(_finding(session, DECODER, LOGITS, np.stack(logits), golden[LOGITS]))
    same = int((np.argmax(logits, 1) == golden["tokens"]).sum())
    return found, same, len(golden["tokens"])


def _finding(session: Session, stage: str, tensor: str, got: np.ndarray, wanted: np.ndarray) -> Finding:
    tolerance = session.bundle.manifest.verification[stage][tensor]["tolerance"]
    diff = np.abs(got.astype(np.float64) - wanted).max()
    return Finding(tensor, float(diff), float(tolerance * np.abs(wanted).max()))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="verify.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--engine", required=True, metavar="DIR", help="the bundle, made by export/build_engines.py")
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    return self


def _verify(options: argparse.Namespace) -> None:
    with Session(options.engine, on_cpu=options.on_cpu) as session:
        found, same, of = verify(session)
        command = session.bundle.manifest.command
    for finding in found:
        print(finding)
    print(f"tokens: {same} of {of} are PyTorch's")
    if not all(finding.is_good for finding in found):
        raise UserError(
            f"{options.engine} computes something else here than where it was built. If it was compiled here, do it "
            f"again (delete its .engine files and timing.cache, then python engines/compile.py {options.engine}); if "
            f"that does not help, use a wider precision: {command} --precision fp32"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    run_command(parser(), _verify, arguments)


if __name__ == "__main__":
    main()
