"""Replaces the image tokens of a prompt by image embeddings.

The rules are the original's, including those that only show in training: a sample without an image token still uses up
one block of image embeddings, labels of image positions are ignored, shorter samples are padded on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from ..errors import UserError
from ..text.prompt import IGNORE_INDEX, IMAGE_TOKEN_INDEX


@dataclass
class Spliced:
    """Inputs of the language model.

    Attributes:
        inputs_embeds: (B, S, D).
        attention_mask: (B, S) bool, if one was given.
        labels: (B, S) int64, if some were given.
    """

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
        embed_tokens: maps ordinary ids (T,) to embeddings (T, D). Called once, whatever the batch holds: where the
            weights are divided over processes (FSDP, ZeRO-3) a call gathers them, and all must call equally often.
        attention_mask: (B, T).
        labels: (B, T).

    Raises:
        UserError: there are fewer or more blocks than the prompt has image tokens.
    """
    is_text = input_ids != IMAGE_TOKEN_INDEX
    texts = embed_tokens(input_ids[is_text]).split(is_text.sum(1).tolist())
    places = [(ids == IMAGE_TOKEN_INDEX).nonzero().flatten().tolist() for ids in input_ids]
    # A sample without an image takes a block and uses none of it, so that every projector sees every batch.
    wanted = [max(1, len(own)) for own in places]
    if sum(wanted) != len(image_embeds):
        count = sum(map(len, places))
        raise UserError(f"the prompt has {count} image tokens, but {len(image_embeds)} images were given")
    blocks = iter(image_embeds)
    taken = [list(islice(blocks, count)) for count in wanted]
    rows = [_splice_embeds(*parts) for parts in zip(texts, places, taken, strict=True)]
    return Spliced(
        torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        None if attention_mask is None else _splice_masks(attention_mask, [len(row) for row in rows]),
        None if labels is None else _splice_labels(labels, places, taken),
    )


def _splice_embeds(text: torch.Tensor, places: list[int], blocks: list[torch.Tensor]) -> torch.Tensor:
    """Embeddings of one sample: `text` (T, D) without the images, `places` of the images in the whole prompt."""
    bounds = [-1, *places, len(text) + len(places)]
    embeds = [text[bounds[0] + 1 : bounds[1]]]
    for i, block in enumerate(blocks[: len(places)], 1):
        embeds += [block.to(text), text[bounds[i] + 1 - i : bounds[i + 1] - i]]
    if not places:
        embeds.append(blocks[0][:0].to(text))
    return torch.cat(embeds)


def _splice_labels(labels: torch.Tensor, places: list[list[int]], blocks: list[list[torch.Tensor]]) -> torch.Tensor:
    """Labels (B, S) of all samples: those of image embeddings and of padding are ignored."""
    rows = []
    for sample, own in enumerate(places):
        parts, start = [], 0
        for place, block in zip(own, blocks[sample], strict=False):  # a sample without an image has a block, too
            parts += [labels[sample, start:place], labels.new_full((len(block),), IGNORE_INDEX)]
            start = place + 1
        rows.append(torch.cat([*parts, labels[sample, start:]]))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE_INDEX)


def _splice_masks(attention_mask: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Masks (B, S) bool of samples that grew to `lengths`: image embeddings count, further padding does not."""
    masks = []
    for mask, length in zip(attention_mask, lengths, strict=True):
        grown = torch.cat([mask.new_ones(length - len(mask)), mask])
        masks.append(torch.nn.functional.pad(grown, (0, max(lengths) - length)))
    return torch.stack(masks).bool()
