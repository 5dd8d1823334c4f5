"""What the Orin boards allow a model at most, on paper: no board is needed, and nothing here was measured.

    python jetson/limits.py --model mobilevlm_v2_1.7b
    python jetson/limits.py --model mobilevlm_v2_3b --board orin-nano-8-super --precision int8 vision=fp16,decoder=int4
    python jetson/limits.py --counted counted.json         a bundle, by what NVIDIA's builder makes of it, too

Times are the larger of bytes over memory bandwidth and operations over the peak, plus the gaps between kernels
(`jetson/roofline.py`), at the module's highest clocks. "fits" compares weights, cache and embedding table with
the memory.
`least` rows have as few kernels and bytes as fusion can make them, `counted` ones those that engines/judge.py --json
found in the builder's listing.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # started as a file: the repository root, not this folder, belongs on the path
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.commands import command, run_command
from mobilevlm.engines.stages import DECODER, VISION
from mobilevlm.engines.tables import aligned_table
from mobilevlm.engines.targets import TARGETS
from mobilevlm.engines.tensorrt.counted import Counted, read_counted
from mobilevlm.errors import UserError, user_path
from mobilevlm.jetson.modules import MODULES
from mobilevlm.jetson.references import REFERENCES
from mobilevlm.jetson.roofline import PAPER, Hardware, cache_row_bytes, decoder_bytes, paper_limits, vision_bytes
from mobilevlm.presets import PRESETS

PROMPT_TOKENS = 204  # 144 of an image and 60 of a question
PRECISIONS = ("fp16", "int8", "int4", "vision=fp16,decoder=int4")
VISION_PRECISIONS = TARGETS["orin"].precisions[VISION]
USABLE = 0.75  # part of the memory that is left beside the system and what TensorRT itself takes
COLUMNS = ["board", "GB/s", "kernels and bytes", "vision", "decoder", "encode ms", "prefill({}) ms", "TTFT ms"]
COLUMNS += ["tokens/s after {}", "bound by", "GB", "fits"]


def parser() -> argparse.ArgumentParser:
    """Defines the command line."""
    self = argparse.ArgumentParser(
        prog="limits.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--model", choices=PRESETS, default="mobilevlm_v2_1.7b", help="a published size, or the demo's")
    self.add_argument("--board", choices=MODULES, nargs="+", default=list(MODULES), help="default: all")
    self.add_argument(
        "--precision",
        nargs="+",
        default=list(PRECISIONS),
        metavar="P",
        help="fp32, fp16, int8, int4 (with int8 vision), or vision=P,decoder=P; several are several rows",
    )
    self.add_argument(
        "--counted", metavar="FILE", help=f"of {command('engines/judge.py')} --json; model and precisions are its own"
    )
    self.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS, metavar="N", help="default: 204")
    self.add_argument(
        "--context", type=int, metavar="N", help="tokens in the kv cache before the one that is generated"
    )
    return self


def print_limits(arguments: argparse.Namespace) -> None:
    """Prints the table.

    Raises:
        UserError: a precision there is no figure for, or a number of tokens that is none.
    """
    counted = read_counted(user_path(arguments.counted)) if arguments.counted else None
    name, config = arguments.model, PRESETS[arguments.model]
    if counted is not None:
        name, config = counted.name, ModelConfig.from_dict(counted.model)
        if strange := [f"{stage}={one}" for stage, one in counted.precision.items() if one not in PAPER]:
            raise UserError(f"{arguments.counted} counts a bundle of {strange[0]}, which has no figures")
    context = arguments.prompt_tokens if arguments.context is None else arguments.context
    if arguments.prompt_tokens < 1 or context < 0:
        raise UserError("--prompt-tokens has to be 1 at least, --context 0 at least")
    mixes = [parse_mix(text) for text in arguments.precision] if counted is None else [counted.precision]
    forms = [None] if counted is None else [None, counted]
    rows = [
        row(board, config, mix, arguments.prompt_tokens, context, form)
        for board in arguments.board
        for mix in mixes
        for form in forms
    ]
    header = [name.format(arguments.prompt_tokens if "prefill" in name else context) for name in COLUMNS]
    print(f"{name}: least times on paper, not measured", end="\n\n")
    print(aligned_table(header, rows, left=5))
    shown = [one for one in REFERENCES if one.board in {board.removesuffix("-super") for board in arguments.board}]
    lines = [f"  {one.board}, {one.stage}: {one}, {one.source}" for one in shown]
    print("\n".join(["", "published, for comparison:", *lines]) if lines else "")


def row(
    board: str,
    config: ModelConfig,
    mix: dict[str, str],
    prompt_tokens: int,
    context: int,
    counted: Counted | None = None,
) -> list[str]:
    """Returns the cells of a line of the table.

    Args:
        board: key of the module.
        config: the model.
        mix: stage to precision.
        prompt_tokens: of the prompt, image tokens included.
        context: tokens in the kv cache before a token.
        counted: what NVIDIA's builder made of the model; None for the least kernels and bytes.
    """
    module = MODULES[board]
    forms = {stage: PAPER[name] for stage, name in mix.items() if stage != VISION or config.vision}
    limits = paper_limits(Hardware(module), config, forms, prompt_tokens, (context,), counted)
    encode, prefill, token = limits.get("image encode"), limits["prefill"], limits[f"decode after {context}"]
    gigabytes = total_bytes(config, mix, max(context, prompt_tokens)) / 1e9
    fits = gigabytes * 1e9 <= USABLE * module.memory_gib * 2**30
    figures = [
        f"{encode.ms:.1f}" if encode else "",
        f"{prefill.ms:.1f}",
        f"{limits['TTFT'].ms:.1f}",
        f"{1e3 / token.ms:.1f}",
    ]
    stage_precisions = [mix[VISION] if encode else "", mix[DECODER]]
    return [
        board,
        f"{module.gb_per_s():.1f}",
        "counted" if counted else "least",
        *stage_precisions,
        *figures,
        token.bound,
        f"{gigabytes:.2f}",
        "yes" if fits else "no",
    ]


def parse_mix(text: str) -> dict[str, str]:
    """Parses a precision for both stages: `fp16`, or `vision=fp16,decoder=int4`; `int4` alone has int8 vision.

    Raises:
        UserError: another precision or stage, or a stage left out.
    """
    if "=" not in text:
        chosen = {VISION: text if text in VISION_PRECISIONS else VISION_PRECISIONS[-1], DECODER: text}
    else:
        chosen = dict(part.strip().partition("=")[::2] for part in text.split(","))
    known = chosen.keys() == {VISION, DECODER} and chosen[VISION] in VISION_PRECISIONS
    if not known or chosen[DECODER] not in PAPER:
        raise UserError(
            f"--precision {text} has no figures: use fp32, fp16, int8 or int4, or {VISION}= (fp32, fp16, int8) and "
            f"{DECODER}= (fp32, fp16, int8, int4) with a comma between"
        )
    return chosen


def total_bytes(config: ModelConfig, mix: dict[str, str], context: int) -> float:
    """Computes the bytes of both stages' weights, the embedding table in float16 and the kv cache.

    Args:
        config: the model.
        mix: stage to precision.
        context: tokens in the kv cache.
    """
    embedding = 2 * config.vocab_size * config.hidden_size
    vision, decoder = vision_bytes(config, PAPER[mix[VISION]]) if config.vision else 0.0, PAPER[mix[DECODER]]
    return vision + decoder_bytes(config, decoder) + embedding + context * cache_row_bytes(config, decoder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit status 0, 2 for a mistake of the person's."""
    run_command(parser(), print_limits, arguments)


if __name__ == "__main__":
    main()
