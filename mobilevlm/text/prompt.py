"""Conversations as prompts, and answers out of generated tokens, as the original has both.

A prompt is a list of segments (see `tokenizer`): a template adds text and control tokens; what a person or the model
said is always text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import UserError, require
from .templates import MORE_TEMPLATES, TEMPLATES, Style, Template, template
from .tokenizer import IMAGE, IMAGE_TOKEN_INDEX, Segment, Token, Tokenizer
from .utterances import Grid, utterances

__all__ = [
    "IGNORE_INDEX",
    "IMAGE",
    "IMAGE_TOKEN_INDEX",
    "IM_END",
    "IM_PATCH",
    "IM_START",
    "MORE_TEMPLATES",
    "TEMPLATES",
    "Conversation",
    "Segment",
    "StopRule",
    "Style",
    "Template",
    "Token",
    "template",
]

IGNORE_INDEX = -100
IM_PATCH = Token("<im_patch>")
IM_START = Token("<im_start>")
IM_END = Token("<im_end>")
SENTENCE_TOKENS = ("<s>", "</s>")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: texts, and `IMAGE` for each image, in their order."""

    content: tuple[Segment, ...]

    def segments(self, start_end: bool) -> list[Segment]:
        """Segments of the turn: a line break after each image, as in the original; none for an empty message."""
        image: list[Segment] = [IM_START, IMAGE, IM_END, "\n"] if start_end else [IMAGE, "\n"]
        return [segment for part in self.content if part for segment in (image if part == IMAGE else [part])]


@dataclass
class Conversation:
    """A conversation, and the prompt that a template makes of it.

    Attributes:
        template: system prompt, roles and separators.
        messages: questions and answers in turn, a question first.
    """

    template: Template
    messages: list[Message] = field(default_factory=list)

    def ask(self, text: str, num_images: int = 0) -> None:
        """Add a question.

        Args:
            text: what the user says, without template; taken literally.
            num_images: how many images it is about.

        Raises:
            UserError: the previous question has no answer yet, or the text is none or came from bytes that are not
                UTF-8.
        """
        self.ask_content([IMAGE] * num_images + [text])

    def ask_content(self, content: Sequence[Segment]) -> None:
        """Add a question in which text and images alternate; `ask` puts all images first, as in training.

        Args:
            content: texts, taken literally, and `IMAGE` for each image.

        Raises:
            UserError: as of `ask`.
        """
        for part in content:
            if part != IMAGE:
                _require_text("the question", part)
        if len(self.messages) % 2:
            raise UserError("the last question has no answer yet: call answer() before the next ask()")
        self.messages.append(Message(tuple(content)))

    def answer(self, text: str) -> None:
        """Add the answer to the last question.

        Raises:
            UserError: there is no open question, or the text is as `ask` refuses it.
        """
        _require_text("the answer", text)
        if len(self.messages) % 2 == 0:
            raise UserError("there is no open question: call ask() before answer()")
        self.messages.append(Message((text,)))

    @property
    def num_images(self) -> int:
        """Number of images that were shown."""
        return sum(part == IMAGE for message in self.messages for part in message.content)

    def segments(self, start_end: bool = False, grids: Sequence[Grid] = ()) -> list[Segment]:
        """Segments of the prompt. After a question it ends where the answer has to begin.

        As in the original, an empty message leaves only its role, without a separator.

        Args:
            start_end: put `<im_start>` and `<im_end>` around images (the checkpoint's `mm_use_im_start_end`).
            grids: rows and columns of the images' tiles, in UTTERANCES: an `IMAGE` for each tile and the whole image.
        """
        if self.template.style is Style.UTTERANCES:
            return utterances(self.template, [message.content for message in self.messages], grids)
        turns = [message.segments(start_end) for message in self.messages]
        if len(turns) % 2:
            turns.append([])
        return _LAYOUTS.get(self.template.style, _with_roles)(self.template, turns)

    def prompt(self, start_end: bool = False) -> str:
        """Prompt as one string: to read, not to tokenise, because text and control tokens look alike in it."""
        return "".join(segment.name if isinstance(segment, Token) else segment for segment in self.segments(start_end))


def _require_text(name: str, text: object) -> None:
    """Refuse what is no text, such as bytes, and lone surrogates: what Python makes of bytes that are not UTF-8."""
    require(isinstance(text, str), name, text, "text (str); bytes have to be decoded first")
    if any("\ud800" <= character <= "\udfff" for character in str(text)):
        raise UserError(f"{name} is not UTF-8 text: check the encoding of the terminal or script")


def _separator(text: str) -> Segment:
    """Segment of a separator: a control token where it names one."""
    return Token(text) if text in SENTENCE_TOKENS else text


def _with_roles(layout: Template, turns: list[list[Segment]]) -> list[Segment]:
    """Segments in the styles SINGLE, TWO, MPT: the system prompt, then every turn behind its role."""
    colon, space = ("", "") if layout.style is Style.MPT else (":", " ")
    ends = (_separator(layout.sep), _separator(layout.sep2 or layout.sep))
    segments: list[Segment] = [layout.system, ends[0]]
    for number, turn in enumerate(turns):
        segments.append(layout.roles[number % 2] + colon)
        segments += [space, *turn, ends[number % 2]] if turn else []
    return segments


def _without_roles(layout: Template, turns: list[list[Segment]]) -> list[Segment]:
    """Segments in the style PLAIN: the turns alone. Without `sep2`, where the original fails, `sep` ends an answer."""
    ends = (_separator(layout.sep), _separator(layout.sep2 or layout.sep))
    segments: list[Segment] = [layout.system]
    for number, turn in enumerate(turns):
        segments += [*turn, ends[number % 2]] if turn else []
    return segments


def _in_brackets(layout: Template, turns: list[list[Segment]]) -> list[Segment]:
    """Segments in the style LLAMA_2: `[INST] question [/INST] answer </s><s>[INST] ...`, without the first BOS."""
    begin, end = _separator(layout.sep), _separator(layout.sep2 or layout.sep)
    system = f"<<SYS>>\n{layout.system}\n<</SYS>>\n\n"
    segments: list[Segment] = []
    for number, turn in enumerate(turns):
        if number == 0:
            segments += ["[INST] ", system, *turn, " [/INST]"]
        elif turn:
            segments += [" ", *turn, " ", end] if number % 2 else [begin, "[INST] ", *turn, " [/INST]"]
    return segments


def _spaced(layout: Template, turns: list[list[Segment]]) -> list[Segment]:
    """Segments in the style SPACED: without a system prompt, nothing comes before the first role."""
    end = _separator(layout.sep)
    segments: list[Segment] = [layout.system, end] if layout.system else []
    for number, turn in enumerate(turns):
        segments.append(layout.roles[number % 2] + ":")
        segments += [" ", *turn, end] if turn else []
    return segments


_LAYOUTS: dict[Style, Callable[[Template, list[list[Segment]]], list[Segment]]] = {
    Style.PLAIN: _without_roles,
    Style.LLAMA_2: _in_brackets,
    Style.SPACED: _spaced,
}


class StopRule:
    """Rule that says when generation ends, and which part of its text is the answer.

    Args:
        tokenizer: of the model that generates.
        template: of the conversation.

    Attributes:
        keyword: the template's stop string: what ends an answer in TWO and SPACED, what ends any turn otherwise.
    """

    def __init__(self, tokenizer: Tokenizer, template: Template):
        self.keyword = (template.style in (Style.TWO, Style.SPACED) and template.sep2) or template.sep
        self._tokenizer = tokenizer
        ids = tokenizer.encode(tokenizer.parse(self.keyword))
        self._ids = ids[1:] if len(ids) > 1 and ids[0] == tokenizer.bos_id else ids

    def stops(self, generated_ids: Sequence[int]) -> bool:
        """Whether the newest of the generated ids (without the prompt's) ends the answer: EOS or the keyword."""
        if len(generated_ids) == 0:
            return False
        return generated_ids[-1] == self._tokenizer.eos_id or self.has_keyword(generated_ids)

    def has_keyword(self, generated_ids: Sequence[int]) -> bool:
        """Whether the newest ids are the keyword's, or the same number of them decodes to a text that has it."""
        newest = [int(index) for index in generated_ids[-len(self._ids) :]]
        return newest == self._ids or self.keyword in self._tokenizer.decode(newest)

    def finish(self, text: str) -> str:
        """Answer in decoded text: without the keyword at its end, and without whitespace around it."""
        return text.strip().removesuffix(self.keyword).strip()
