"""Builds an engine bundle: checkpoint in, verified and ready to run out.

python export/build_engines.py --model mtgv/MobileVLM_V2-1.7B --target host
python export/build_engines.py --model DIR --target host --precision vision=fp32,decoder=fp16
python export/build_engines.py --random-weights mobilevlm_v2_1.7b --target host
python export/build_engines.py --model DIR --target snapdragon --soc 8gen3
python export/build_engines.py --model DIR --target orin --precision int8
python export/build_engines.py --model DIR --target orin --precision auto       the board measures and chooses
python export/build_engines.py --engine DIR --target orin          on the board: compiles what was copied there
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import importlib.util
import shlex
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mobilevlm.commands import run_command
from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.candidates import AUTO, choose_command
from mobilevlm.engines.compile import compile_bundle
from mobilevlm.engines.ort import openvino
from mobilevlm.engines.qnn.provider import require_package
from mobilevlm.engines.qnn.socs import SOCS, Soc, find_soc
from mobilevlm.engines.targets import INT8_AMX, TARGETS, TENSORRT, Target, candidate_names, parse_precision
from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt, is_installed, library_of
from mobilevlm.errors import UserError, user_path
from mobilevlm.presets import PRESETS

if TYPE_CHECKING:
    from mobilevlm.export.plan import BuildPlan


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
    source.add_argument(
        "--engine", metavar="DIR", help="for TensorRT: a bundle that was built elsewhere, to be compiled here"
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
    self.add_argument("--soc", metavar="NAME", help=f"for snapdragon, which one: {', '.join(s.name for s in SOCS)}")
    self.add_argument(
        "--no-compile", action="store_true", help="for snapdragon: leave the graphs, which a device compiles itself"
    )
    self.add_argument(
        "--calibration",
        metavar="FILE",
        help="LLaVA-style JSON, its pictures beside it: conversations to choose int4 weights and ranges on (default: "
        "some of the demo's; none for random weights' int4)",
    )
    self.add_argument(
        "--blocks",
        type=int,
        metavar="N",
        help="for TensorRT: engines that the decoder is cut into, for boards with little memory (default: 1; "
        "orin-nano: one for every 12 layers)",
    )
    self.add_argument(
        "--judge",
        action="store_true",
        help="for TensorRT: have NVIDIA's own builder make engines of the graphs here, without a GPU, and say in "
        "report.md what it made of them (pip install 'mobilevlm[rtx]')",
    )
    self.add_argument("--overwrite", action="store_true", help="replace a bundle that is already there")
    return self


def build(arguments: argparse.Namespace) -> None:
    """Plan, write and verify one bundle, and say where it is.

    Raises:
        UserError: anything the person can mend; see `plan` and `verify`.
    """
    if arguments.engine is not None:
        _compile(arguments)
        return
    asked = _asked(arguments.precision, TARGETS[arguments.target])
    precisions = next(iter(asked.values()))
    if arguments.base is not None and arguments.model is None:
        raise UserError("--base goes with --model: random weights have no LoRA")
    soc = _soc(arguments)
    target = TARGETS[arguments.target]
    if arguments.blocks is not None and target.backend != TENSORRT:
        raise UserError(f"--blocks is for targets on TensorRT, and this is {target.name}")
    if arguments.judge:
        if target.backend != TENSORRT:
            raise UserError(f"--judge is for targets on TensorRT, and this is {target.name}")
        import_tensorrt(RTX)
    if arguments.calibration and not any(target.calibrates(*item) for one in asked.values() for item in one.items()):
        known = [name for name in target.precisions["decoder"] if target.calibrates("decoder", name)]
        raise UserError(
            f"--calibration is for a decoder in {' or '.join(known)}, and this one is {precisions['decoder']}"
        )
    if soc is not None and precisions["decoder"] == "a16w4" and not soc.takes_int4:
        raise UserError(f"{soc} does not take decoder=a16w4: leave it at a16w8")
    _require_export_packages()
    if soc is not None:
        require_package()
    if INT8_AMX in precisions.values():
        openvino.require_package(f"precision {INT8_AMX}")
    with ExitStack() as stack:
        # PyTorch takes seconds to import: only once the words are known to make sense.
        from mobilevlm.checkpoint.checkpoint import open_checkpoint
        from mobilevlm.export.bundle_writer import write_bundle
        from mobilevlm.export.calibration.conversations import DEFAULT
        from mobilevlm.export.candidates import write_all
        from mobilevlm.export.plan import make_plan

        if arguments.model is not None:
            checkpoint = open_checkpoint(arguments.model, arguments.base)
            source = ["--model", arguments.model] + (["--base", arguments.base] if arguments.base else [])
        else:
            from mobilevlm.export.split.random_checkpoint import random_checkpoint

            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            checkpoint = random_checkpoint(arguments.random_weights, directory)
            source = ["--random-weights", arguments.random_weights]
        calibration = user_path(arguments.calibration) if arguments.calibration else None
        if calibration is None and arguments.model is not None:
            calibration = DEFAULT
        out = arguments.out or (f"artifacts/{checkpoint.name}-{target.name}-{AUTO}" if len(asked) > 1 else None)
        plans = {
            name: make_plan(
                checkpoint,
                source,
                arguments.target,
                chosen,
                arguments.max_context,
                out,
                arguments.overwrite,
                calibration,
                soc,
                arguments.blocks,
            )
            for name, chosen in asked.items()
        }
        _say_what_is_used(checkpoint)
        (plan, *others) = plans.values()
        if others:
            write_all(plans, arguments.judge)
        else:
            for item in write_bundle(plan, arguments.judge):
                if not item.is_of_form:  # those are in the report
                    print(item, file=sys.stderr)
            print(f"Details: {plan.out / 'report.md'}", file=sys.stderr)
    _say_what_is_next(plan, bool(others))
    print(plan.out)


def _say_what_is_next(plan: BuildPlan, has_candidates: bool) -> None:
    target, where = plan.target, shlex.quote(str(plan.out))
    question = " --image FILE" if plan.checkpoint.config.vision else ""
    chat = f"python runtime/chat.py --engine {where}{question} --prompt TEXT"
    make = choose_command(where) if has_candidates else f"python engines/compile.py {where}"
    elsewhere = f"copy this repository and {where} to the device ({target.device}), and there\n  "
    if target.backend != TENSORRT:
        print(f"Next: {chat}", file=sys.stderr)
    elif not is_installed(library_of(target.name)):
        print(f"Prepared. Next: {elsewhere}{make}\n  {chat}", file=sys.stderr)
    elif has_candidates:  # this is the board
        print(f"Next: {make}", file=sys.stderr)
    else:
        compile_bundle(plan.out)
        print(f"Next: {elsewhere if target.has_portable_engines else ''}{chat}", file=sys.stderr)


def _asked(precision: str | None, target: Target) -> dict[str, dict[str, str]]:
    """A precision for every stage, by a name for the whole: several where a board is to choose."""
    if precision != AUTO:
        return {precision or "": parse_precision(precision, target)}
    if target.backend != TENSORRT:
        raise UserError(
            f"--precision {AUTO} is for targets on TensorRT, where a board measures; {target.name}'s default is the "
            "quickest that was measured"
        )
    return {name: parse_precision(name, target) for name in candidate_names(target)}


def _compile(arguments: argparse.Namespace) -> None:
    """Compile a bundle that is there; nothing else can be asked for."""
    if TARGETS[arguments.target].backend != TENSORRT:
        raise UserError(f"--engine is for targets on TensorRT, and this is {arguments.target}")
    spare = (
        "base",
        "precision",
        "out",
        "max_context",
        "soc",
        "calibration",
        "blocks",
        "no_compile",
        "judge",
        "overwrite",
    )
    if given := [f"--{name.replace('_', '-')}" for name in spare if getattr(arguments, name)]:
        raise UserError(f"{', '.join(given)} cannot be changed any more: the bundle at --engine was built with its own")
    built_for = Bundle.open(arguments.engine, compiling=True).manifest.target
    if built_for != arguments.target:
        raise UserError(f"{arguments.engine} was built for --target {built_for}, not for {arguments.target}")
    print(compile_bundle(arguments.engine).directory)


def _soc(arguments: argparse.Namespace) -> Soc | None:
    """What to compile for."""
    if TARGETS[arguments.target].backend != "qnn":
        if arguments.soc or arguments.no_compile:
            raise UserError(f"--soc and --no-compile are for --target snapdragon, and this is {arguments.target}")
        return None
    if bool(arguments.soc) == arguments.no_compile:
        raise UserError(
            f"--target {arguments.target} needs to know what it compiles for (--soc 8gen3), or --no-compile: give one "
            "of the two"
        )
    return find_soc(arguments.soc) if arguments.soc else None


def _say_what_is_used(checkpoint) -> None:
    """Directories that were looked for, in case another one was found than was meant."""
    tower = "vision tower's " + ("configuration" if checkpoint.config.uses_checkpoint_tower else "weights")
    for what, directory in {"LoRA base": checkpoint.base_dir, tower: checkpoint.tower_dir}.items():
        if directory is not None:
            here = directory.is_relative_to(Path.cwd())
            print(f"{what}: {directory.relative_to(Path.cwd()) if here else directory}", file=sys.stderr)


def _require_export_packages() -> None:
    """Say what a device install lacks, instead of failing in the middle."""
    needed = ("torch", "transformers", "accelerate", "onnx", "tqdm")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"building needs {', '.join(missing)}: pip install 'mobilevlm[export]' (in a clone: bash run.sh demo). "
            "A finished bundle runs without them"
        )


def main() -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's, 1 for one of ours."""
    run_command(parser(), build)


if __name__ == "__main__":
    main()
