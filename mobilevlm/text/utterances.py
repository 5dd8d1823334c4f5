"""Prompts of Idefics3 and SmolVLM: a role before every turn, an end of utterance behind it, markers around images."""

from __future__ import annotations

from collections.abc import Sequence

from .templates import Template
from .tokenizer import IMAGE, Segment, Tag, Token

AROUND_IMAGE = Token("<fake_token_around_image>")
WHOLE_IMAGE = Tag("<global-img>")


def utterances(layout: Template, turns: Sequence[Sequence[Segment]]) -> list[Segment]:
    """Segments of a conversation. After a question it ends where the answer has to begin.

    Args:
        layout: roles and separators; a system prompt becomes a turn of its own.
        turns: texts and images of each, a question first.
    """
    end = [Token(layout.sep), "\n"]
    segments: list[Segment] = [Token(layout.begin)]
    if layout.system:
        segments += ["System: ", layout.system, *end]
    for number, turn in enumerate(turns):
        # A text follows a space, an image the colon itself.
        space = [] if turn[:1] == (IMAGE,) else [" "]
        segments += [layout.roles[number % 2] + ":", *space]
        for part in turn:
            segments += [AROUND_IMAGE, WHOLE_IMAGE, IMAGE, AROUND_IMAGE] if part == IMAGE else [part]
        segments += end
    return segments + [layout.roles[1] + ":"] * (len(turns) % 2)
