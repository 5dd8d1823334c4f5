"""How often a bundle finds the same token likeliest as PyTorch, in conversations as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

from .embeddings import Rows
from .runner import scores
from .session import Session
from .top_logits import Likeliest


def agreement(engine: Path, check: Path) -> float:
    """From 0 to 1; what the bundle's context has no room for is not asked.

    Args:
        engine: a bundle that runs here.
        check: written by `export/calibration/agreement_set.py`, which says what is in it.

    Raises:
        UserError: the bundle cannot be run.
    """
    known = load_file(check)
    pictures, same, count = iter(known.get("pixel_values", ())), 0, 0
    ids = np.split(known["ids"], np.cumsum(known["lengths"])[:-1])
    ends = np.cumsum(known["counts"])[:-1]
    places, tokens = (np.split(known[name], ends) for name in ("rows", "tokens"))
    with Session(engine) as session:
        for talk, asked, wanted in zip(ids, places, tokens, strict=True):
            rows = Rows(
                [
                    session._runner.encode_image(next(pictures)[None])
                    if token == IMAGE_TOKEN_INDEX
                    else session._rows(int(token))
                    for token in talk
                ]
            )
            past = 0
            for place, token in zip(asked.tolist(), wanted.tolist(), strict=True):
                if place >= session.max_context:
                    break
                found = scores(session._runner, rows[past : place + 1], past)
                same += int(token == (found.tokens[0] if isinstance(found, Likeliest) else found.argmax()))
                past, count = place + 1, count + 1
    return same / max(count, 1)
