"""A byte-level tokenizer of any size, for models of a published size without their weights.

Its merges are learned from the pieces of the small SentencePiece model, its other pieces are `tok<id>`; control tokens
come last, as published.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers

from mobilevlm.text.utterances import AROUND_IMAGE, WHOLE_IMAGE, tile_tag

SMALL_TOKENIZER = Path(__file__).parent / "small_tokenizer.model"
FIRST = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MOST_TILES = 6  # a side that has names of its own
LAST = (
    WHOLE_IMAGE.name,
    *(tile_tag(row, column).name for row in range(1, MOST_TILES + 1) for column in range(1, MOST_TILES + 1)),
    *(AROUND_IMAGE.name, "<image>", "<end_of_utterance>"),
)
LEARNED = 768


def write_random_byte_level(directory: Path, vocab_size: int) -> None:
    """Writes a `tokenizer.json` and its configuration.

    Args:
        directory: receives the files.
        vocab_size: its number of tokens, 1024 or more.
    """
    made = tokenizers.Tokenizer(models.BPE(unk_token=FIRST[0]))
    digits, split = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, split])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=LEARNED, special_tokens=list(FIRST), initial_alphabet=alphabet)
    made.train_from_iterator(_words(), trainer)
    raw = json.loads(made.to_str())
    vocabulary = raw["model"]["vocab"]
    vocabulary |= {f"\u0120tok{index}": index for index in range(len(vocabulary), vocab_size - len(LAST))}
    made = tokenizers.Tokenizer.from_str(json.dumps(raw))
    made.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in LAST])
    made.save(str(directory / "tokenizer.json"))
    roles = {"bos_token": FIRST[1], "eos_token": LAST[-1], "pad_token": FIRST[2], "unk_token": FIRST[0]}
    (directory / "tokenizer_config.json").write_text(json.dumps(roles, indent=2) + "\n", encoding="utf-8")


def _words() -> Iterator[str]:
    """Yields the pieces of the small model, in which every space begins a word."""
    model = SentencePieceProcessor(model_file=str(SMALL_TOKENIZER))
    for index in range(model.get_piece_size()):
        yield model.id_to_piece(index).replace("\u2581", " ")
