"""Runs a bundle's sample on this machine and compares with PyTorch and with what the build's own stages gave.

    python runtime/verify.py --engine DIR
    python runtime/verify.py --engine DIR --polygraphy FOLDER --stages decoder

A bundle does this by itself the first time it is opened on a machine; here are all figures, and the answer's tokens.
Of a TensorRT bundle the second line writes what Polygraphy needs to find the layer that differs: docs/polygraphy.md.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import shlex
from collections.abc import Iterable, Sequence

import numpy as np

from mobilevlm.commands import command, localized, run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.cpu import this_cpu
from mobilevlm.engines.stages import DECODER, PIXEL_VALUES, VISION
from mobilevlm.engines.tensorrt.require import find_tensorrt_target
from mobilevlm.engines.trust import add_trust
from mobilevlm.errors import UserError, user_path
from mobilevlm.runtime.sample_file import answer_of, read_sample
from mobilevlm.runtime.self_check import Finding, require, run_sample
from mobilevlm.runtime.session import Session


def verify(session: Session) -> tuple[list[Finding], int, int]:
    """Runs the sample of a session's bundle.

    Returns:
        What was compared, how many of the answer's tokens are PyTorch's with the image as it is encoded here, and the
        number of the answer's tokens.
    """
    bundle, decoder = session.bundle, session.decoder
    found = run_sample(decoder)
    golden = read_sample(bundle)
    images = [decoder.encode_image(golden[PIXEL_VALUES])] if bundle.has_vision else []
    prompt = decoder.splice(golden["input_ids"].tolist(), images)
    chosen = [int(np.asarray(decoder.decode(prompt, 0)).argmax())]
    # What PyTorch followed, too: where the written decoder chose another token, its own would lead elsewhere.
    for number, token in enumerate(answer_of(golden).tolist()):
        logits = decoder.decode(decoder.embed([token]), len(prompt) + number)
        chosen.append(int(np.asarray(logits).argmax()))
    return found, int((np.array(chosen) == golden["tokens"]).sum()), len(golden["tokens"])


def parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    self = argparse.ArgumentParser(
        prog="verify.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    build = command("export/build_engines.py")
    self.add_argument("--engine", required=True, metavar="DIR", help=f"the bundle, made by {build}")
    add_trust(self)
    self.add_argument("--on-cpu", action="store_true", help="run a bundle for another device on this CPU: slow")
    self.add_argument("--polygraphy", metavar="FOLDER", help="of a TensorRT bundle: write inputs, outputs and a script")
    self.add_argument("--stages", nargs="+", choices=(VISION, DECODER), help="for --polygraphy (default: all it has)")
    return self


def polygraphy_command(engine: str, stages: Iterable[str]) -> str:
    """Returns the command that writes what Polygraphy needs to debug some stages of a bundle.

    Args:
        engine: the bundle's directory, as it was given.
        stages: names.
    """
    words = ["--engine", engine, "--polygraphy", f"{Path(engine)}-polygraphy", "--stages", *stages]
    return command("runtime/verify.py", *words)


def _write_polygraphy(options: argparse.Namespace) -> None:
    from mobilevlm.runtime.tensorrt.polygraphy_script import write_folders  # ONNX Runtime, which TensorRT does without

    bundle = Bundle.open(options.engine, compiling=True, trust=options.trust)
    stages = options.stages or [*[VISION] * bundle.has_vision, DECODER]
    for script in write_folders(bundle, user_path(options.polygraphy), stages):
        print(f"bash {shlex.quote(str(script))} golden")


def _verify(options: argparse.Namespace) -> None:
    if options.polygraphy:
        return _write_polygraphy(options)
    if options.stages:
        raise UserError("--stages goes with --polygraphy FOLDER: all stages are compared without it")
    with Session(options.engine, on_cpu=options.on_cpu, check=False, trust=options.trust) as session:
        found, same, of = verify(session)
        bundle, remedy = session.bundle, session.decoder.runner.remedy()
    print(f"cpu: {this_cpu()}")
    for finding in found:
        print(finding)
    print(f"tokens: {same} of {of} are PyTorch's")
    bad = dict.fromkeys(finding.stage for finding in found if not finding.is_good)
    if bad and find_tensorrt_target(bundle) is not None:
        print(f"To find the layer that differs: {polygraphy_command(options.engine, bad)}", file=sys.stderr)
    require(bundle, found, remedy)
    if not found:
        raise UserError(
            f"{options.engine} is of a version that recorded no figures: {localized(bundle.manifest.command)}"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; the arguments are those of the process when None."""
    run_command(parser(), _verify, arguments)


if __name__ == "__main__":
    main()
