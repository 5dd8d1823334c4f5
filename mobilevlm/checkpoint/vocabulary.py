"""Makes embedding, head and tokenizer of a checkpoint agree: their numbers of rows, and whether the head is tied."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..text.tokenizer import Tokenizer
from .checkpoint_error import CheckpointError
from .config import ModelConfig
from .tensors import Entry, Tensors

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Rows that checkpoints have beyond their tokens are padding up to a multiple of 128; as many tokens may lack a row.
SPARE_ROWS = 128


def with_one_head(config: ModelConfig, tensors: Tensors, where: str) -> Tensors:
    """Leave out the copy of a tied head that many programs save beside the embedding.

    Args:
        config: says whether the head is tied.
        tensors: the checkpoint's.
        where: the checkpoint, for the message.

    Raises:
        CheckpointError: the head is no copy.
    """
    if not config.tie_word_embeddings or HEAD not in tensors or EMBEDDING not in tensors:
        return tensors
    shapes = [tensors.entry(name).shape for name in (EMBEDDING, HEAD)]
    if shapes[0] != shapes[1] or not torch.equal(tensors[EMBEDDING], tensors[HEAD]):
        raise CheckpointError(
            f"{where}: config.json says tie_word_embeddings, but the weights hold {HEAD} {shapes[1]} that differs from "
            f'{EMBEDDING} {shapes[0]}: write "tie_word_embeddings": false into config.json if both are meant'
        )
    return tensors.renamed(lambda name: None if name == HEAD else name)


def with_token_rows(
    config: ModelConfig, tensors: Tensors, tokenizer: Tokenizer, where: str
) -> tuple[ModelConfig, Tensors]:
    """Check the tokenizer against the embedding, and append the rows of tokens that the weights lack.

    Args:
        config: its `vocab_size` gives way to the rows that embedding and head have.
        tensors: the checkpoint's.
        tokenizer: the checkpoint's, with its control tokens.
        where: the tokenizer's file, for the message.

    Raises:
        CheckpointError: tokenizer and weights belong to different models.
    """
    rows, wanted = _rows(config, tensors), len(tokenizer)
    if tokenizer.num_pieces > rows or not rows - SPARE_ROWS < wanted <= rows + SPARE_ROWS:
        number = tokenizer.num_pieces if tokenizer.num_pieces > rows else wanted
        raise CheckpointError(
            f"{where} has {number} tokens, but the model has {rows} embedding "
            "rows (config.json vocab_size): this is another model's tokenizer, copy the right one there"
        )
    names = [name for name in (EMBEDDING, HEAD) if name in tensors] if wanted > rows else []
    grown = {name: _grown(tensors, name, wanted - rows) for name in names}
    return replace(config, vocab_size=max(rows, wanted)), tensors.replaced(grown)


def _rows(config: ModelConfig, tensors: Tensors) -> int:
    """Rows of the embedding, where the head has as many: programs grow both and forget `vocab_size`."""
    shapes = {tensors.entry(name).shape for name in (EMBEDDING, HEAD) if name in tensors}
    if len(shapes) == 1 and len(shape := shapes.pop()) == 2 and shape[1] == config.hidden_size:
        return shape[0]
    return config.vocab_size


def _grown(tensors: Tensors, name: str, rows: int) -> Entry:
    """A weight (V, D) with further rows at its end, each the mean of the old ones."""
    shape = tensors.entry(name).shape
    if len(shape) != 2:
        raise CheckpointError(f"{name} has shape {shape}; two dimensions are needed")
    old_rows, columns = shape

    def read() -> torch.Tensor:
        weight = tensors[name]
        # The mean of the old rows, as the original initialises its start and end tokens.
        mean = weight.float().mean(0, keepdim=True).to(weight.dtype)
        return torch.cat([weight, mean.expand(rows, -1)])

    return Entry((old_rows + rows, columns), read)
