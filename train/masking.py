"""Conversion of a conversation to token ids and labels, with the original's choice of the tokens that are learned.

The original finds the answers by splitting the finished prompt at its separators and counting tokens of the pieces.
Where the counts do not add up (an answer that contains ` ASSISTANT: `, an unknown character) it learns nothing from the
row. Checkpoints were trained that way, so it is done the same way here, and reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mobilevlm.errors import UserError
from mobilevlm.text.prompt import IGNORE_INDEX, IM_END, IM_START, IMAGE, Conversation, Message, Segment, Style, Template
from mobilevlm.text.tokenizer import Tokenizer

Turn = tuple[str, str]  # ("human" | "gpt", what was said)
SPEAKERS = ("human", "gpt")


class RowError(UserError):
    """Error of a row of training data that cannot be used."""


@dataclass(frozen=True)
class Masked:
    """Token ids and labels of one row.

    Attributes:
        input_ids: token ids, -200 where an image goes.
        labels: the same ids where they are learned, -100 elsewhere.
        warning: why nothing is learned from the row, in the original's words; empty if something is.
    """

    input_ids: list[int]
    labels: list[int]
    warning: str = ""


def mask(
    turns: list[Turn],
    template: Template,
    tokenizer: Tokenizer,
    has_image: bool,
    max_length: int,
    start_end: bool = False,
) -> Masked:
    """Returns token ids and labels of a conversation.

    Args:
        turns: speaker and text; with `has_image`, `<image>` in a text stands for an image and is moved to its front.
        template: wording, which also decides the masking.
        tokenizer: the model's tokenizer.
        has_image: whether the row has images; without, `<image>` is ordinary text, and a long text is cut.
        max_length: `model_max_length` of the recipe, in tokens.
        start_end: put `<im_start>` and `<im_end>` around images (`mm_use_im_start_end` of the checkpoint).

    Raises:
        RowError: speakers do not alternate, or the template needs something else.
    """
    if has_image:
        turns = [(speaker, _images_first(text, template)) for speaker, text in turns]
    if template.style is Style.PLAIN:  # the original never frames its images
        return _plain(turns, template, _encoder(tokenizer, has_image, start_end=False))
    encode = _encoder(tokenizer, has_image, start_end)
    limit = None if has_image else max_length  # a text with images is cut in the batch, where its images are counted
    if template.style is Style.LLAMA_2 or template.version == "mpt" or template.version.startswith("v1"):
        return _by_rounds(_alternating(turns), template, tokenizer, encode, max_length, limit)
    return _by_speaker(turns, template, encode, limit)


def _images_first(text: str, template: Template) -> str:
    count = text.count(IMAGE.name)
    if not count:
        return text
    text = (f"{IMAGE.name}\n" * count + text.replace(IMAGE.name, "").strip()).strip()
    return text.replace(IMAGE.name, f"<Image>{IMAGE.name}</Image>") if "mmtag" in template.version else text


def _encoder(tokenizer: Tokenizer, has_image: bool, start_end: bool) -> Callable[[str], list[int]]:
    framed = [IM_START, IMAGE, IM_END] if start_end else [IMAGE]

    def encode(text: str) -> list[int]:
        segments: list[Segment] = []
        for segment in tokenizer.parse(text):
            if segment == IMAGE:
                segments += framed if has_image else [IMAGE.name]
            else:
                segments.append(segment)
        return tokenizer.encode(segments)

    return encode


def _plain(turns: list[Turn], template: Template, encode: Callable[[str], list[int]]) -> Masked:
    """Masks images and a caption: everything after the images is learned, what the human said is dropped."""
    count = turns[0][1].count(IMAGE.name) if turns else 0
    if len(turns) != 2 or not count:
        raise RowError("the plain template needs exactly two turns, the first with <image>")
    images = IMAGE.name * count
    ids = encode(images + turns[1][1] + template.sep)
    masked = len(encode(images))
    return Masked(ids, [IGNORE_INDEX] * masked + ids[masked:])


def _alternating(turns: list[Turn]) -> list[Turn]:
    """Turns from the first question on."""
    if turns and turns[0][0] == SPEAKERS[1]:
        turns = turns[1:]
    for number, (speaker, _) in enumerate(turns):
        if speaker != SPEAKERS[number % 2]:
            raise RowError(f"turn {number + 1} is from {speaker!r}: human and gpt have to alternate")
    if not turns:
        raise RowError("there are no turns")
    return turns


def _by_rounds(
    turns: list[Turn],
    template: Template,
    tokenizer: Tokenizer,
    encode: Callable[[str], list[int]],
    max_length: int,
    limit: int | None,
) -> Masked:
    """Masks v1, llama_2 and mpt: the prompt is cut into rounds, each round into instruction and answer."""
    prompt = Conversation(template, [Message((text,)) for _, text in turns]).prompt()
    ids = encode(prompt)[:limit]
    labels = list(ids)
    is_mpt = template.version == "mpt"
    # A round's own BOS stands for the separator behind it; the instruction's end is glued to the answer's first token.
    position, behind, glued = (0, len(encode(template.sep)), 0) if is_mpt else (1, 0, 2)
    labels[:position] = [IGNORE_INDEX] * position
    rounds, separator = _rounds(prompt, template)
    for text in rounds:
        parts = text.split(separator)
        if not text or len(parts) != 2:
            break
        instruction = len(encode(parts[0] + separator)) - glued
        end = min(position + instruction, len(labels))
        labels[position:end] = [IGNORE_INDEX] * (end - position)
        position += len(encode(text)) + behind
    labels[position:] = [IGNORE_INDEX] * len(labels[position:])
    total = sum(index != tokenizer.unk_id for index in ids)
    if position < max_length and position != total:
        warning = f"WARNING: tokenization mismatch: {position} vs. {total}. (ignored)"
        return Masked(ids, [IGNORE_INDEX] * len(ids), warning)
    return Masked(ids, labels)


def _rounds(prompt: str, template: Template) -> tuple[list[str], str]:
    """Rounds of a prompt, and the separator between question and answer in each."""
    if template.version == "mpt":
        pieces = prompt.split(template.sep)
        rounds = [pieces[:3], *(pieces[start : start + 2] for start in range(3, len(pieces), 2))]
        return [template.sep.join(part) for part in rounds], template.sep + template.roles[1]
    separator = "[/INST] " if template.style is Style.LLAMA_2 else f"{template.sep}{template.roles[1]}: "
    return prompt.split(template.sep2), separator


def _by_speaker(turns: list[Turn], template: Template, encode: Callable[[str], list[int]], limit: int | None) -> Masked:
    """Masks the oldest format, `### Human: ...`: all but the assistant's text, except two tokens of each role."""
    names = dict(zip(SPEAKERS, template.roles, strict=True))
    pieces = [f"{template.system}\n\n", *(f"### {names.get(who, 'unknown')}: {text}\n" for who, text in turns)]
    ids = encode("".join(pieces) + "### ")[:limit]
    labels = list(ids)
    bounds = [0]
    for piece in pieces:
        bounds.append(bounds[-1] + len(encode(piece)))
    labels[: bounds[1]] = [IGNORE_INDEX] * len(labels[: bounds[1]])
    for (speaker, _), start, end in zip(turns, bounds[1:-1], bounds[2:], strict=True):
        if speaker == SPEAKERS[0]:
            labels[start + 2 : end] = [IGNORE_INDEX] * len(labels[start + 2 : end])
    return Masked(ids, labels)
