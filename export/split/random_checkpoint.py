"""A model of a published size without its weights, for sizing and benchmarks.

LLaMA's own vocabulary may not be shipped with this project, so its tokenizer is a small real one padded to the size the
model expects: 768 pieces of a byte-pair model trained on CPython's docstrings, the rest `tok<id>`, so that a random
model's answer can at least be read.
"""

from __future__ import annotations

from pathlib import Path

from sentencepiece import sentencepiece_model_pb2

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.checkpoint.tensors import random_tensors
from mobilevlm.model.model import expected_shapes
from mobilevlm.presets import PRESETS
from mobilevlm.text.prompt import template

from .random_byte_level import write_random_byte_level

SMALL_TOKENIZER = Path(__file__).parent / "small_tokenizer.model"


def random_checkpoint(preset: str, directory: Path) -> Checkpoint:
    """Returns a model of a published size with random weights.

    Args:
        preset: a name in `PRESETS`.
        directory: receives its tokenizer.
    """
    config = PRESETS[preset]
    write = write_random_byte_level if template(config.conv_mode).begin else write_random_tokenizer
    write(directory, config.vocab_size)
    return Checkpoint(f"{preset}-random", config, random_tensors(expected_shapes(config)), directory)


def write_random_tokenizer(directory: Path, vocab_size: int) -> None:
    """Writes a `tokenizer.model`.

    Args:
        directory: receives the file.
        vocab_size: its number of pieces, 768 or more.
    """
    # protobuf makes the module's classes when it is imported.
    model = sentencepiece_model_pb2.ModelProto.FromString(SMALL_TOKENIZER.read_bytes())  # type: ignore[attr-defined]
    for index in range(len(model.pieces), vocab_size):
        # A score below every real piece's: never chosen when text is tokenised.
        model.pieces.add(piece=f"\u2581tok{index}", score=-1e6)
    model.trainer_spec.vocab_size = len(model.pieces)
    (directory / "tokenizer.model").write_bytes(model.SerializeToString())
