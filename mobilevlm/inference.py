"""The original project's quick-start call: `from mobilevlm.inference import inference_once`."""

from __future__ import annotations

from argparse import Namespace

import torch

from .model.answer import answer
from .model.model import MobileVLM


def inference_once(args: Namespace) -> str:
    """Load a model, answer one question, print and return the answer: the original's quick start.

    Args:
        args: `model_path`, `image_file`, `prompt`, `conv_mode`, `temperature`, `top_p`, `num_beams`,
            `max_new_tokens`, `load_8bit`, `load_4bit`.
    """
    on_gpu = torch.cuda.is_available()
    model = MobileVLM.from_pretrained(
        args.model_path,
        dtype=torch.float16 if on_gpu else torch.float32,
        device="cuda" if on_gpu else "cpu",
        load_8bit=args.load_8bit,
        load_4bit=args.load_4bit,
    )
    text = answer(
        model,
        args.prompt,
        args.image_file,
        conv_mode=args.conv_mode,
        temperature=args.temperature,
        top_p=args.top_p,
        num_beams=args.num_beams,
        max_new_tokens=args.max_new_tokens,
    )
    print(text)
    return text
