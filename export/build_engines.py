"""Builds an engine bundle: checkpoint in, verified and ready to run out.

python export/build_engines.py --model mtgv/MobileVLM_V2-1.7B --target host
python export/build_engines.py --model DIR --target host --precision vision=fp32,decoder=fp16
python export/build_engines.py --random-weights mobilevlm_v2_1.7b --target host
python export/build_engines.py --model DIR --target snapdragon --soc 8gen3
python export/build_engines.py --model DIR --target orin --precision int8
python export/build_engines.py --model DIR --target orin --precision auto       the board measures and chooses
python export/build_engines.py --engine DIR --target orin          on the board: compiles what was copied there
python export/build_engines.py --model DIR --target host --layout hf        for transformers.js, as the hub has models
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mobilevlm.commands import run_command
from mobilevlm.engines.candidates import AUTO
from mobilevlm.engines.stages import DECODER, VISION
from mobilevlm.engines.targets import TARGETS, Target
from mobilevlm.engines.trust import add_sign, sign_bundle, signing_key
from mobilevlm.errors import UserError, user_path
from mobilevlm.export.backends.backend import Backend, backend_of, backends
from mobilevlm.export.backends.results import Built
from mobilevlm.export.hf_layout.names import asked_variants
from mobilevlm.export.precision_option import parse_precision
from mobilevlm.export.precisions import facts_of
from mobilevlm.packages import require
from mobilevlm.presets import PRESETS

if TYPE_CHECKING:
    from mobilevlm.checkpoint.checkpoint import Checkpoint
    from mobilevlm.engines.signature import SecretKey

BUNDLE, HF = "bundle", "hf"  # layouts


def parser() -> argparse.ArgumentParser:
    """The command line."""
    self = argparse.ArgumentParser(
        prog="build_engines.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = self.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="DIR_OR_HUB_ID", help="checkpoint in the published layout, or a LoRA on one")
    source.add_argument(
        "--random-weights", metavar="PRESET", choices=PRESETS, help=f"no weights needed: {', '.join(PRESETS)}"
    )
    self.add_argument("--base", metavar="DIR_OR_HUB_ID", help="the model a LoRA directory was trained on")
    self.add_argument("--target", required=True, choices=TARGETS, help="the device to build for")
    self.add_argument(
        "--precision",
        metavar="P",
        help="one for all stages (fp16; int4 is the decoder's, beside vision=int8), or stage=P,…; for TensorRT also "
        "auto: all that may be quickest, and the board chooses (default: the target's own)",
    )
    self.add_argument("--out", metavar="DIR", help="the bundle (default: artifacts/NAME-TARGET)")
    self.add_argument(
        "--max-context", type=int, metavar="N", help="tokens the kv cache holds (default: the model's; 512 on an NPU)"
    )
    self.add_argument(
        "--calibration",
        metavar="FILE",
        help="LLaVA-style JSON, its pictures beside it: conversations to choose int4 weights and ranges on (default: "
        "some of the demo's; none for random weights' int4)",
    )
    self.add_argument(
        "--layout",
        choices=(BUNDLE, HF),
        help="hf: the Hugging Face hub's files for transformers.js and ONNX Runtime, with --target host; --precision "
        "names fp32, fp16, int8 (q8) and int4 (q4) of them, with commas between (default: all). Without it, a bundle",
    )
    self.add_argument("--overwrite", action="store_true", help="replace a bundle that is already there")
    add_sign(self)
    for backend in backends():
        backend.add_options(self, source)
    return self


def build(arguments: argparse.Namespace) -> None:
    """Plans, writes and verifies one bundle, and says where it is.

    Raises:
        UserError: anything the person can mend; see `plan` and `verify`.
    """
    target = TARGETS[arguments.target]
    backend, key = backend_of(target), signing_key(arguments)
    if compiled := backend.compile_built(arguments):
        if key is not None:
            sign_bundle(compiled, key)
        print(compiled)
        return
    for other in backends():
        if other is not backend:
            other.refuse_options(arguments, target)
    asked = _asked_of_layout(arguments, target, backend)
    if arguments.base is not None and arguments.model is None:
        raise UserError("--base goes with --model: random weights have no LoRA")
    backend = backend.check(arguments, target, next(iter(asked.values())))
    _check_calibration(arguments, target, asked)
    require("building", "torch", "transformers", "accelerate", "onnx", "tqdm", extra="export")
    if arguments.layout == HF:
        print(_built_layout(arguments, backend))
        return
    built = _built(arguments, backend, asked, key)
    print(backend.hand_over(built), file=sys.stderr)
    print(built.out)


def _built(
    arguments: argparse.Namespace, backend: Backend, asked: dict[str, dict[str, str]], key: SecretKey | None
) -> Built:
    """Builds a bundle, or a folder of several for a device to choose from."""
    # PyTorch takes seconds to import: only once the words are known to make sense.
    from mobilevlm.export.bundle_writer import write_bundle
    from mobilevlm.export.candidates import write_all
    from mobilevlm.export.plan import BuildRequest, make_plan

    target = TARGETS[arguments.target]
    with ExitStack() as stack:
        checkpoint, source = _opened(arguments, stack)
        out = arguments.out or (f"artifacts/{checkpoint.name}-{target.name}-{AUTO}" if len(asked) > 1 else None)
        plans = {
            name: make_plan(
                BuildRequest(
                    checkpoint=checkpoint,
                    source=source,
                    target=target,
                    backend=backend,
                    precisions=precisions,
                    max_context=arguments.max_context,
                    out=out,
                    overwrite=arguments.overwrite,
                    calibration=_calibration(arguments),
                )
            )
            for name, precisions in asked.items()
        }
        _say_what_is_used(checkpoint)
        (plan, *others) = plans.values()
        if others:
            write_all(plans, key)
        else:
            for item in write_bundle(plan, key):
                if not item.is_of_form:  # those are in the report
                    print(item, file=sys.stderr)
            print(f"Details: {plan.out / 'report.md'}", file=sys.stderr)
    return Built(target, plan.out, checkpoint.config.vision is not None, bool(others))


def _built_layout(arguments: argparse.Namespace, backend: Backend) -> Path:
    """Builds what Hugging Face's libraries load."""
    from mobilevlm.export.hf_layout.layout import build_layout

    with ExitStack() as stack:
        checkpoint, source = _opened(arguments, stack)
        _say_what_is_used(checkpoint)
        return build_layout(arguments, checkpoint, source, backend, _calibration(arguments))


def _calibration(arguments: argparse.Namespace) -> Path | None:
    """The file of conversations; None for random weights, unless one is named."""
    from mobilevlm.export.calibration.conversations import DEFAULT

    if arguments.calibration:
        return user_path(arguments.calibration)
    return None if arguments.model is None else DEFAULT


def _opened(arguments: argparse.Namespace, stack: ExitStack) -> tuple[Checkpoint, list[str]]:
    """Opens the model to build from; returns it, and the command line's words that name it."""
    from mobilevlm.checkpoint.checkpoint import open_checkpoint
    from mobilevlm.export.split.random_checkpoint import random_checkpoint

    if arguments.model is None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return random_checkpoint(arguments.random_weights, directory), ["--random-weights", arguments.random_weights]
    base = ["--base", arguments.base] if arguments.base else []
    return open_checkpoint(arguments.model, arguments.base), ["--model", arguments.model, *base]


def _asked_of_layout(arguments: argparse.Namespace, target: Target, backend: Backend) -> dict[str, dict[str, str]]:
    """A precision for every stage, by a name for the whole: several where a device is to choose, or a library."""
    if arguments.layout != HF:
        return _asked(arguments.precision, target, backend)
    if target.name != "host":
        raise UserError(f"--layout {HF} goes with --target host, and this is --target {target.name}")
    names = [one.precision for one in asked_variants(arguments.precision)]
    return {name: {VISION: name, DECODER: name} for name in names}


def _asked(precision: str | None, target: Target, backend: Backend) -> dict[str, dict[str, str]]:
    """A precision for every stage, by a name for the whole: several where the device is to choose."""
    if precision != AUTO:
        return {precision or "": parse_precision(precision, target)}
    return {name: parse_precision(name, target) for name in backend.candidates(target)}


def _check_calibration(arguments: argparse.Namespace, target: Target, asked: dict[str, dict[str, str]]) -> None:
    """Refuses calibration data that nothing would be chosen on."""

    def calibrates(stage: str, name: str) -> bool:
        return facts_of(target.backend, name).calibrates(stage)

    if not arguments.calibration or any(calibrates(*item) for one in asked.values() for item in one.items()):
        return
    known = [name for name in target.precisions["decoder"] if calibrates("decoder", name)]
    chosen = next(iter(asked.values()))["decoder"]
    raise UserError(f"--calibration is for a decoder in {' or '.join(known)}, and this one is {chosen}")


def _say_what_is_used(checkpoint: Checkpoint) -> None:
    """Directories that were looked for, in case another one was found than was meant."""
    tower = "vision tower's " + ("configuration" if checkpoint.config.uses_checkpoint_tower else "weights")
    for what, directory in {"LoRA base": checkpoint.base_dir, tower: checkpoint.tower_dir}.items():
        if directory is not None:
            here = directory.is_relative_to(Path.cwd())
            print(f"{what}: {directory.relative_to(Path.cwd()) if here else directory}", file=sys.stderr)


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), build)


if __name__ == "__main__":
    main()
