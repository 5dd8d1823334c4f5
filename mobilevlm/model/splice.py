"""Puts image embeddings into the places that image tokens hold in a prompt.

The rules are the original's, including those that only show in training: a sample without an image token still uses up
one block of image embeddings, labels of image positions are ignored, shorter samples are padded on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import UserError
from ..text.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX


@dataclass
class Spliced:
    """Inputs of the language model: `inputs_embeds` (B, S, D), and mask (B, S) bool and labels (B, S) if given."""

    inputs_embeds: torch.Tensor
    attention_mask: torch.Tensor | None
    labels: torch.Tensor | None


def splice(
    input_ids: torch.Tensor,
    image_embeds: Sequence[torch.Tensor],
    embed_tokens: Callable[[torch.Tensor], torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    labels: torch.Tensor | None = None,
) -> Spliced:
    """Replace every image token by the next block of image embeddings.

    Args:
        input_ids: (B, T) int64, padded on the right, -200 where an image goes.
        image_embeds: blocks (N, D), in the order of the image tokens over the whole batch.
        embed_tokens: the embedding of ordinary ids, (T,) to (T, D). Called once, whatever the batch holds: where the
            weights are divided over processes (FSDP, ZeRO-3) a call gathers them, and all must call equally often.
        attention_mask: (B, T).
        labels: (B, T).

    Raises:
        UserError: there are fewer or more blocks than the prompt has image tokens.
    """
    is_text = input_ids != IMAGE_TOKEN_INDEX
    texts = embed_tokens(input_ids[is_text]).split(is_text.sum(1).tolist())
    blocks = iter(image_embeds)
    rows, row_labels = [], []
    for sample, ids in enumerate(input_ids):
        places = (ids == IMAGE_TOKEN_INDEX).nonzero().flatten().tolist()
        # A sample without an image takes a block and uses none of it, so that every projector sees every batch.
        taken = [next(blocks, None) for _ in places or [0]]
        if any(block is None for block in taken):
            count = int((input_ids == IMAGE_TOKEN_INDEX).sum())
            raise UserError(f"the prompt has {count} image tokens, but {len(image_embeds)} images were given")
        sample_labels = None if labels is None else labels[sample]
        embeds, new_labels = _splice_one(texts[sample], places, taken, sample_labels)
        rows.append(embeds)
        row_labels.append(new_labels)
    if next(blocks, None) is not None:
        count = int((input_ids == IMAGE_TOKEN_INDEX).sum())
        raise UserError(f"the prompt has {count} image tokens, but {len(image_embeds)} images were given")
    return _stack(rows, row_labels, input_ids, attention_mask, labels)


def _splice_one(text, places, blocks, labels):
    """One sample: `text` holds the embeddings of what is no image, `places` are those of images in the whole."""
    bounds = [-1, *places, len(text) + len(places)]
    embeds, new_labels = [], []
    for i in range(len(bounds) - 1):
        piece = slice(bounds[i] + 1, bounds[i + 1])
        embeds.append(text[piece.start - i : piece.stop - i])
        if labels is not None:
            new_labels.append(labels[piece])
        if i < len(places):
            embeds.append(blocks[i].to(embeds[0]))
            if labels is not None:
                new_labels.append(labels.new_full((len(blocks[i]),), IGNORE_INDEX))
    if not places:
        embeds.append(blocks[0][:0].to(embeds[0]))
    return torch.cat(embeds), torch.cat(new_labels) if labels is not None else None


def _stack(rows, row_labels, input_ids, attention_mask, labels) -> Spliced:
    longest = max(len(row) for row in rows)
    inputs_embeds = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    if labels is not None:
        labels = torch.nn.utils.rnn.pad_sequence(row_labels, batch_first=True, padding_value=IGNORE_INDEX)
    if attention_mask is not None:
        masks = []
        for row, mask in zip(rows, attention_mask, strict=True):
            grown = mask.new_ones(len(row) - input_ids.shape[1])
            masks.append(torch.nn.functional.pad(torch.cat([grown, mask]), (0, longest - len(row))))
        attention_mask = torch.stack(masks).bool()
    return Spliced(inputs_embeds, attention_mask, labels)
