"""How often a bundle and PyTorch find the same token most likely, in conversations as they are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mobilevlm.errors import UserError

from .session import Session
from .top_logits import most_likely

NUMBERS = ("ids", "lengths", "rows", "tokens", "counts")  # (n,) integers


def agreement(engine: Path, check: Path) -> float:
    """Returns the share of tokens, 0 to 1; what the bundle's context has no room for is not asked.

    Args:
        engine: a bundle that runs here.
        check: written by `export/calibration/agreement_set.py`, which says what is in it.

    Raises:
        UserError: the bundle cannot be run, or the file is damaged.
    """
    known = _read(check)
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


def _read(check: Path) -> dict[str, np.ndarray]:
    """Reads an agreement set.

    Raises:
        UserError: it is damaged.
    """
    try:
        if not check.is_file():
            raise ValueError("there is no such file")
        known = load_file(check)
        for name in NUMBERS:
            if known[name].ndim != 1 or known[name].dtype.kind not in "iu":
                raise ValueError(f"{name} is {known[name].dtype} {known[name].shape}")
        lengths, counts = known["lengths"], known["counts"]
        sums = int(lengths.sum()), int(counts.sum()), int(counts.sum()), len(lengths)
        if sums != (len(known["ids"]), len(known["rows"]), len(known["tokens"]), len(counts)):
            raise ValueError("its conversations are not as long as it says")
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise UserError(f"{check} cannot be used ({error}): copy the folder again, or build it again") from None
    return known
