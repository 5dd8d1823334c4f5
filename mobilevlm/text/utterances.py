"""Prompts of Idefics3 and SmolVLM: a role before every turn, an end of utterance behind it, markers around images."""

from __future__ import annotations

from collections.abc import Sequence

from .templates import Template
from .tokenizer import IMAGE, Segment, Tag, Token

AROUND_IMAGE = Token("<fake_token_around_image>")
WHOLE_IMAGE = Tag("<global-img>")


Grid = tuple[int, int]  # rows and columns of an image's tiles, (0, 0) for none


def utterances(layout: Template, turns: Sequence[Sequence[Segment]], grids: Sequence[Grid] = ()) -> list[Segment]:
    """Segments of a conversation. After a question it ends where the answer has to begin.

    Args:
        layout: roles and separators; a system prompt becomes a turn of its own.
        turns: texts and images of each, a question first.
        grids: of the images, in their order; images beyond these have no tiles.
    """
    remaining, end = iter(grids), (Token(layout.sep), "\n")
    segments: list[Segment] = [Token(layout.begin)]
    if layout.system:
        segments += ["System: ", layout.system, *end]
    for number, turn in enumerate(turns):
        # A text follows a space, an image the colon itself.
        space = [] if turn[:1] == (IMAGE,) else [" "]
        segments += [layout.roles[number % 2] + ":", *space]
        for part in turn:
            segments += _image(*next(remaining, (0, 0))) if part == IMAGE else [part]
        segments += end
    return segments + [layout.roles[1] + ":"] * (len(turns) % 2)


def tile_tag(row: int, column: int) -> Tag:
    """Marker of a tile; rows and columns count from 1."""
    return Tag(f"<row_{row}_col_{column}>")


def _image(rows: int, columns: int) -> list[Segment]:
    """Segments of an image: its tiles, a line for each row, an empty line, and the whole image."""
    segments: list[Segment] = []
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            segments += [AROUND_IMAGE, tile_tag(row, column), IMAGE]
        segments.append("\n")
    return [*segments, *(["\n"] if rows else []), AROUND_IMAGE, WHOLE_IMAGE, IMAGE, AROUND_IMAGE]
