"""Prompt templates, word for word: a model answers well only in the wording it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..errors import UserError, shown


class Style(Enum):
    """Order of roles, turns and separators in a prompt."""

    SINGLE = "single"  # one separator after every turn
    TWO = "two"  # one after questions, another after answers
    MPT = "mpt"  # the roles bring their own markup
    PLAIN = "plain"  # no roles
    LLAMA_2 = "llama_2"  # [INST] question [/INST] answer
    UTTERANCES = "utterances"  # every turn behind its role, images between markers (`utterances.py`)
    SPACED = "spaced"  # every turn behind its role, with one separator after it, and `sep2` in generated text alone


@dataclass(frozen=True)
class Template:
    """The fixed parts of a prompt.

    Attributes:
        style: how turns are strung together.
        system: what precedes the dialogue.
        roles: names of who asks and who answers.
        sep: what ends a turn.
        sep2: what ends an answer, where that differs; in SPACED only while it is generated.
        version: the original's name for the way it masks training labels.
        offset: how many example turns the original has built into the template; they are not reproduced here.
        begin: control token that every prompt begins with, in UTTERANCES.
    """

    style: Style
    system: str
    roles: tuple[str, str]
    sep: str
    sep2: str | None = None
    version: str = "Unknown"
    offset: int = 0
    begin: str = ""


_CHAT = "A chat between a curious {} and an artificial intelligence assistant. "
_POLITE = "The assistant gives helpful, detailed, and polite answers to the {}'s questions."
_HUMAN = (_CHAT + _POLITE).format("human", "human")
_USER = (_CHAT + _POLITE).format("user", "user")
_SEES = (
    "able to understand the visual content that the user provides, and assist the user with a variety of tasks using "
    "natural language."
)
_TAGGED = (
    f"{_CHAT.format('user')}The assistant is {_SEES}"
    "The visual content will be provided with the following format: <Image>visual content</Image>."
)
_SAFE = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. "
    "Please ensure that your responses are socially unbiased and positive in nature.\n\n"
    "If a question does not make any sense, or is not factually coherent, explain why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information."
)
_MPT = (
    "<|im_start|>system\n"
    "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers."
)

_CAPITALS = ("USER", "ASSISTANT")
_NAMES = ("Human", "Assistant")
_V1 = Template(Style.TWO, _USER, _CAPITALS, " ", "</s>", "v1")

# Those the original offers by name. Every published MobileVLM was trained with v1.
TEMPLATES: dict[str, Template] = {
    "default": Template(Style.SINGLE, _HUMAN, _NAMES, "###", offset=2),
    "llama_2": Template(Style.LLAMA_2, _SAFE, _CAPITALS, "<s>", "</s>", "llama_v2"),
    "plain": Template(Style.PLAIN, "", ("", ""), "\n"),
    "llava_llama_2": Template(
        Style.LLAMA_2,
        f"You are a helpful language and vision assistant. You are {_SEES}",
        _CAPITALS,
        "<s>",
        "</s>",
        "llama_v2",
    ),
    "v1": _V1,
    "vicuna_v1": _V1,
}

# Those its code defines without offering them: for checkpoints somebody trained with such a template.
MORE_TEMPLATES: dict[str, Template] = {
    "mpt": Template(Style.MPT, _MPT, ("<|im_start|>user\n", "<|im_start|>assistant\n"), "<|im_end|>", version="mpt"),
    "llava_v0": Template(Style.SINGLE, _HUMAN, _NAMES, "###"),
    "llava_v0_mmtag": Template(Style.SINGLE, _TAGGED, _NAMES, "###", version="v0_mmtag"),
    "llava_v1": Template(Style.TWO, _HUMAN, _CAPITALS, " ", "</s>", "v1"),
    "llava_v1_mmtag": Template(Style.TWO, _TAGGED, _CAPITALS, " ", "</s>", "v1_mmtag"),
    "vicuna_extra": Template(Style.TWO, _USER, _CAPITALS, "<ques_end>", "</s>", "extra"),
}

# Those of checkpoints in other layouts, by the names that a family gives them (`checkpoint/families/`).
FAMILY_TEMPLATES: dict[str, Template] = {
    "llava_hf": Template(Style.SPACED, "", _CAPITALS, " ", "</s>", "v1"),
    "smolvlm": Template(Style.UTTERANCES, "", ("User", "Assistant"), "<end_of_utterance>", begin="<|im_start|>"),
}


def template(name: str) -> Template:
    """Prompt template of a name.

    Raises:
        UserError: there is no such template; the message lists those there are.
    """
    known = TEMPLATES | MORE_TEMPLATES | FAMILY_TEMPLATES
    if not isinstance(name, str) or name not in known:
        raise UserError(f"there is no prompt template {shown(name)}; choose one of {', '.join(known)} (usually v1)")
    return known[name]
