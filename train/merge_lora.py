"""Puts a LoRA into the model it was trained on: a float16 checkpoint in the published layout comes out.

python train/merge_lora.py BASE LORA OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from dataclasses import replace

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.packages import require
from mobilevlm.whole_directory import whole_directory


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="merge_lora.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("base", metavar="BASE", help="the model the LoRA was trained on: directory or hub id")
    self.add_argument("lora", type=user_path, metavar="LORA", help="adapter, non_lora_trainables.bin and config.json")
    self.add_argument("out", type=user_path, metavar="OUT", help="where the merged checkpoint goes")
    return self


def merge(args: argparse.Namespace) -> None:
    """Merges a LoRA into its base and saves the result.

    Raises:
        UserError: OUT is not empty, LORA is not a LoRA, or the two do not fit.
    """
    require("merging", "torch", "transformers", extra="train")
    _check_output(args.out)
    from mobilevlm.model.model import MobileVLM, MobileVLMConfig

    model = MobileVLM.from_pretrained(args.lora, base=args.base, dtype="fp16")
    tower = model.checkpoint.tower_dir
    if tower:  # saved beside the weights, under its own name, so that the checkpoint moves as a whole
        config = replace(model.config.model_config, mm_vision_tower=tower.name)
        model.config = MobileVLMConfig.of(config)
    with whole_directory(
        args.out, lambda: _check_output(args.out)
    ) as directory:  # a killed merge leaves nothing at OUT
        model.save_pretrained(directory)
    print(f"{args.out}: {args.lora} merged into {args.base}, float16")


def _check_output(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: give another OUT")


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), merge)


if __name__ == "__main__":
    main()
