"""How often a bundle and PyTorch find the same token most likely, in conversations as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from .session import Session
from .top_logits import most_likely


def agreement(engine: Path, check: Path) -> float:
    """Returns the share of tokens, 0 to 1; what the bundle's context has no room for is not asked.

    Args:
        engine: a bundle that runs here.
        check: written by `export/calibration/agreement_set.py`, which says what is in it.

    Raises:
        UserError: the bundle cannot be run.
    """
    known = load_file(check)
    images, same, count = iter(known.get("pixel_values", ())), 0, 0
    ids = np.split(known["ids"], np.cumsum(known["lengths"])[:-1])
    ends = np.cumsum(known["counts"])[:-1]
    places, tokens = (np.split(known[name], ends) for name in ("rows", "tokens"))
    with Session(engine) as session:
        decoder = session.decoder
        image_embeds = (decoder.encode_image(pixel_values[None]) for pixel_values in images)
        for talk, asked, wanted in zip(ids, places, tokens, strict=True):
            embeds, past = decoder.splice(talk.tolist(), image_embeds), 0
            for place, token in zip(asked.tolist(), wanted.tolist(), strict=True):
                if place >= session.max_context:
                    break
                same += int(token == most_likely(decoder.decode(embeds[past : place + 1], past)))
                past, count = place + 1, count + 1
    return same / max(count, 1)
