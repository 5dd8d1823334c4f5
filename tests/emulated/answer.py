"""Runs bundles on the CPU it is started on, without PyTorch: a line of JSON about the CPU, then one about each.

    python tests/emulated/answer.py OUT_DIR PICTURE BUNDLE...

Of each bundle OUT_DIR gets an `.npz` of what its stages made of the golden sample.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort

from mobilevlm.engines.cpu import this_cpu
from mobilevlm.runtime.session import Session
from mobilevlm.runtime.verify import verify

QUESTIONS = (
    "What color is the circle?",
    "What color is the star?",
    "What color is the square?",
    "What color is the background?",
    "How many shapes are there?",
    "How many circles are there?",
    "Is there a triangle?",
    "Is there a circle?",
    "Is there a red shape?",
    "Is there a blue shape in the image?",
    "Is the star to the left of the square?",
    "Is the circle to the right of the star?",
    "Is the square above the circle?",
    "Is the star below the circle?",
    "What shape is red?",
    "What shape is blue?",
    "What is to the left of the square?",
    "What is above the circle?",
    "What is in the picture?",
    "Describe the image.",
)
MOST_TOKENS = 12
TOO_MUCH = ("torch", "transformers", "onnx")  # for a device


class Kept:
    """A decoder that keeps what its stages return."""

    def __init__(self, decoder):
        self._decoder = decoder
        self.embeds, self.logits = None, []

    def __getattr__(self, name: str):
        return getattr(self._decoder, name)

    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        self.embeds = np.array(self._decoder.encode_image(pixel_values))
        return self.embeds

    def decode(self, inputs_embeds: np.ndarray, past: int) -> np.ndarray:
        logits = self._decoder.decode(inputs_embeds, past)
        self.logits.append(logits.copy())
        return logits


def report(directory: Path, picture: str, out: Path) -> dict:
    """What a bundle does here."""
    begin = time.perf_counter()
    with Session(directory, check=False) as session:  # the check on opening is a part of what `verify` does
        opened = time.perf_counter()
        decoder = session.decoder
        session.decoder = kept = Kept(decoder)
        found, same, of = verify(session)
        session.decoder = decoder
        verified = time.perf_counter()
        np.savez(out / f"{directory.name}.npz", vision=kept.embeds, logits=np.stack(kept.logits))
        answers = ["".join(session.chat(one, picture, max_new_tokens=MOST_TOKENS)) for one in QUESTIONS]
    return {
        "bundle": directory.name,
        "is_good": all(finding.is_good for finding in found),
        "found": [str(finding) for finding in found],
        "tokens": [same, of],
        "decibels": {f"{finding.tensor}, {finding.reference}": round(finding.snr_db, 1) for finding in found},
        "answers": answers,
        "seconds": {
            "open": round(opened - begin, 1),
            "verify": round(verified - opened, 1),
            "answers": round(time.perf_counter() - verified, 1),
        },
    }


def main(out: Path, picture: str, directories: list[Path]) -> None:
    """Print the lines."""
    about = {
        "cpu": str(this_cpu()),
        "features": this_cpu().features,
        "onnxruntime": ort.__version__,
        "too_much": [name for name in TOO_MUCH if find_spec(name)],
    }
    print(json.dumps(about), flush=True)
    for directory in directories:
        try:
            print(json.dumps(report(directory, picture, out)), flush=True)
        except Exception as error:  # the next one may run
            print(json.dumps({"bundle": directory.name, "error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], list(map(Path, sys.argv[3:])))
