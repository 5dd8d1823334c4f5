"""Packed text for pre-training a language model: texts end to end, cut into blocks of equal length."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mobilevlm.errors import UserError
from mobilevlm.text.tokenizer import Tokenizer

from .data import NOTES
from .special_ids import special_id
from .texts import read_texts

FLUSH = 1 << 20  # tokens kept in memory while packing


def pack(files: Sequence[Path], tokenizer: Tokenizer, out: Path) -> Path:
    """Tokenises texts once, into one flat file of ids: BOS, text, EOS, BOS, text, EOS, ...

    Args:
        files: see `texts.read_texts`.
        tokenizer: the model's tokenizer.
        out: directory of `tokens.bin` and of `tokens.json`, which records the inputs; for the same inputs it is kept.

    Returns:
        The path of `tokens.bin`.

    Raises:
        UserError: a file cannot be read, or the tokenizer names no EOS token.
    """
    path, description = out / "tokens.bin", out / "tokens.json"
    made_of = {"files": [[str(file), file.stat().st_size] for file in files if file.is_file()], "vocab": len(tokenizer)}
    if description.is_file() and json.loads(description.read_text()) == made_of:
        return path
    out.mkdir(parents=True, exist_ok=True)
    description.unlink(missing_ok=True)
    kind = token_type(len(tokenizer))
    with path.open("wb") as stream:
        ids: list[int] = []
        end = special_id(tokenizer, "eos")
        for file in files:
            for text in read_texts(file):
                ids += [*tokenizer.encode([text]), end]
                if len(ids) > FLUSH:
                    stream.write(np.array(ids, kind).tobytes())
                    ids = []
        stream.write(np.array(ids, kind).tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    # Written last: its presence says that the tokens are all there.
    description.write_text(json.dumps(made_of) + "\n")
    return path


def token_type(vocab_size: int) -> type[np.unsignedinteger]:
    """Type of a token on disk: two bytes where the vocabulary allows it."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


class PackedRows(Dataset):
    """Blocks of a packed file, mapped from disk; a rest shorter than a block is left out.

    Attributes:
        lengths: tokens per block, negative as for rows without an image, see `sampler.grouped_indices`.
    """

    def __init__(self, path: Path, vocab_size: int, block: int):
        """Opens a file of `pack`.

        Args:
            path: the packed file.
            vocab_size: pieces of its tokenizer, from which the type of a token follows.
            block: tokens in a block.

        Raises:
            UserError: the file holds less than one block.
        """
        self.tokens = np.memmap(path, token_type(vocab_size), "r")
        self.block = block
        self.lengths = [-block] * (len(self.tokens) // block)
        if not self.lengths:
            raise UserError(
                f"the texts have {len(self.tokens)} tokens, fewer than one block of {block}: give more text"
            )

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Returns `input_ids` and `labels` (block,) int64: every token is learned."""
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        ids = torch.from_numpy(self.tokens[number * self.block : (number + 1) * self.block].astype(np.int64))
        return {"input_ids": ids, "labels": ids.clone(), NOTES: []}
