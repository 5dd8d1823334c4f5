"""Quantisation of a PyTorch model by bitsandbytes, while it is loaded onto a CUDA GPU."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BitsAndBytesConfig

from ..commands import command
from ..errors import UserError

UNQUANTISED = ["lm_head", "vision_tower", "mm_projector"]


def bitsandbytes_config(bits: int) -> BitsAndBytesConfig:
    """transformers' quantisation settings, as the original has them.

    Args:
        bits: 8 for LLM.int8, 4 for nf4 with double quantisation and float16 arithmetic.
    """
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=UNQUANTISED)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_compute_dtype=torch.float16,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_quant_type="nf4",
        llm_int8_skip_modules=UNQUANTISED,
    )


def check_gpu(bits: int, model: str | Path, base: str | Path | None) -> None:
    """Refuse to quantise with bitsandbytes where there is no GPU.

    Args:
        bits: 4 or 8.
        model: directory or hub id of the model, for the command in the message.
        base: for a LoRA, the model it was trained on, if it was given.

    Raises:
        UserError: there is no CUDA GPU; the message names the command that builds a quantised engine.
    """
    if not torch.cuda.is_available():
        source = ("--model", model, *(("--base", base) if base else ()))
        build = command("export/build_engines.py", *source, "--target", "host")
        raise UserError(
            f"load_{bits}bit needs a CUDA GPU and bitsandbytes; this machine has no GPU. For a quantised model on "
            f"this machine build an engine: `{build}`"
        )
