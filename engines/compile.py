"""Makes the TensorRT engines of a bundle, on the machine that will run them; needs no PyTorch.

    python engines/compile.py DIR
    python engines/compile.py DIR --capability SM75        for --target rtx, on any machine, without a GPU

Engines that are up to date are kept, so that it can be interrupted and run again. Those of --target rtx run on every
GPU from Ampere (SM80) on, or on those named.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from collections.abc import Sequence

from mobilevlm.commands import command, run_command
from mobilevlm.engines.bundle import Bundle, amend_manifest
from mobilevlm.engines.manifest import EngineEntry, TensorrtEntry
from mobilevlm.engines.signature import SecretKey
from mobilevlm.engines.stages import TIMING_CACHE_FILE, engine_file
from mobilevlm.engines.tensorrt.cuda_device import compute_capability, system_release
from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt, library_of
from mobilevlm.engines.tensorrt.record import (
    PORTABLE_FROM,
    engine_record,
    machine_record,
    noted_ingredients,
    parts,
    spare_files,
)
from mobilevlm.engines.tensorrt.require import tensorrt_target
from mobilevlm.engines.tensorrt.subprocesses import build_apart
from mobilevlm.engines.trust import Trust, add_sign, add_trust, sign_bundle, signing_key
from mobilevlm.errors import UserError


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="compile.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument(
        "engine", metavar="DIR", help=f"the bundle, made by {command('export/build_engines.py')} on any machine"
    )
    self.add_argument(
        "--capability",
        nargs="+",
        default=[],
        metavar="SM",
        help="for --target rtx: compute capabilities of the GPUs that will run it, such as SM75 for Turing (default: "
        "all from SM80 on)",
    )
    add_trust(self)
    add_sign(self)
    return self


def compile_bundle(
    directory: str | Path, capabilities: Sequence[str] = (), trust: Trust = (), key: SecretKey | None = None
) -> Bundle:
    """Build what is missing or out of date, and note it in the bundle.

    Args:
        directory: of the bundle.
        capabilities: of the GPUs that TensorRT-RTX builds for; none for all from SM80 on.
        trust: public keys, of which one has to have signed the bundle; see `Bundle.open`.
        key: to sign the bundle with, after each engine; without one it has no signature any more.

    Returns:
        The bundle, which this machine, or one with such a GPU, can run now.

    Raises:
        BundleError: it needs no engines.
        UserError: TensorRT or a GPU is missing, an engine could not be built, or capabilities were named for a target
            whose engines are for the GPU at hand.
    """
    bundle = Bundle.open(directory, compiling=True, trust=trust)
    target = tensorrt_target(bundle, ", which runs as it is: nothing to compile")
    library = library_of(target.name)
    if capabilities and library is not RTX:
        raise UserError(
            f"--capability is for bundles of --target rtx, and {directory} is for {target.name}: TensorRT makes "
            "engines for the GPU at hand alone"
        )
    for leftover in bundle.directory.glob("*.partial"):
        leftover.unlink()
    version = import_tensorrt(library).__version__
    if library is RTX:
        machine = machine_record(version, ",".join(capabilities), "")
    else:
        machine = machine_record(version, compute_capability(), system_release())
    record = bundle.manifest.tensorrt
    if record.get("machine") != machine:  # engines do not move
        record = {"machine": machine, "engines": {}}
    _say(f"{library.name} {version}, compute capability {machine['capability'] or f'{PORTABLE_FROM / 10} and newer'}")
    for part in parts(bundle):
        bundle, record = _up_to_date(bundle, part, record, capabilities, key)
    return bundle


def _up_to_date(
    bundle: Bundle, part: str, record: TensorrtEntry, capabilities: Sequence[str], key: SecretKey | None
) -> tuple[Bundle, TensorrtEntry]:
    """Bundle and record with the engine of a part: built, unless the one that is there is made from the same."""
    made_from = engine_record(bundle.manifest, part)
    name = engine_file(part)
    if noted_ingredients(record, part) == made_from and bundle.path(name).is_file():
        _say(f"{name} is up to date")
        return bundle, record
    begin = time.perf_counter()
    build_apart(bundle.directory, part, capabilities)
    seconds = round(time.perf_counter() - begin, 1)
    entry: EngineEntry = {"made_from": made_from, "seconds": seconds}
    record = {"machine": record["machine"], "engines": record["engines"] | {part: entry}}
    new = [file for file in (name, TIMING_CACHE_FILE) if bundle.path(file).is_file()]
    spare = spare_files(bundle.manifest)
    # After each engine: what is done stays done when the next one fails.
    manifest = amend_manifest(bundle.directory, bundle.manifest, new, tensorrt=record, spare=spare, key=key)
    _say(f"{name}: {bundle.path(name).stat().st_size / 1e6:.1f} MB in {seconds:.0f} s")
    return Bundle(bundle.directory, manifest, bundle.config), record


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _compile(options: argparse.Namespace) -> None:
    key = signing_key(options)
    bundle = compile_bundle(options.engine, options.capability, options.trust, key)
    if key is not None:
        sign_bundle(bundle.directory, key)
    where = " on the PC that will run it" if library_of(bundle.manifest.target) is RTX else ""
    compare = command("runtime/verify.py", "--engine", bundle.directory)
    print(f"{bundle.directory} is ready. Compare it with PyTorch{where}: {compare}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    run_command(parser(), _compile, arguments)


if __name__ == "__main__":
    main()
