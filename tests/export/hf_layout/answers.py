"""Counts answers of a `--layout hf` export that are not the fp32 bundle's, over the calibration images.

python -m tests.export.hf_layout.answers --layout artifacts/browser/model --engine artifacts/demo-host-fp32
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mobilevlm.image import load_image
from mobilevlm.runtime import Session
from tests.conftest import ROOT
from tests.export.hf_layout.loop import Loop

IMAGES = sorted((ROOT / "export" / "calibration_data").glob("*.jpg"))
QUESTIONS = ("What color is the circle?", "How many shapes are there?", "Describe the image.")
SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_quantized", "int4": "_q4"}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", type=Path, required=True, metavar="DIR")
    parser.add_argument("--engine", required=True, metavar="DIR", help="the same model's fp32 bundle")
    arguments = parser.parse_args()
    asked = [(image, question) for image in IMAGES for question in QUESTIONS]
    with Session(arguments.engine) as session:
        right = ["".join(session.chat(question, image, max_new_tokens=48)).strip() for image, question in asked]
    for name, suffix in SUFFIXES.items():
        loop = Loop(arguments.layout, suffix)
        said = [loop.say(question, load_image(image)).strip() for image, question in asked]
        other = sum(one != wanted for one, wanted in zip(said, right, strict=True))
        print(f"{name}: {other} of {len(asked)} answers are others than the fp32 bundle's", flush=True)


if __name__ == "__main__":
    main()
