"""A tokenizer for models without weights: a small real one, padded with named pieces to the size a model expects.

LLaMA's own vocabulary may not be shipped with this project. The 768 pieces come from a byte-pair model trained on
CPython's docstrings; the rest are `tok<id>`, so that a random model's answer can at least be read.
"""

from __future__ import annotations

from pathlib import Path

from sentencepiece import sentencepiece_model_pb2

SMALL = Path(__file__).parent / "small_tokenizer.model"


def write_random_tokenizer(directory: Path, vocab_size: int) -> None:
    """Write a `tokenizer.model` with exactly `vocab_size` pieces."""
    model = sentencepiece_model_pb2.ModelProto.FromString(SMALL.read_bytes())
    for index in range(len(model.pieces), vocab_size):
        # A score below every real piece's: never chosen when text is tokenised.
        model.pieces.add(piece=f"\u2581tok{index}", score=-1e6)
    model.trainer_spec.vocab_size = len(model.pieces)
    (directory / "tokenizer.model").write_bytes(model.SerializeToString())
