"""Tokenizer without PyTorch or transformers: gives the ids of the slow LLaMA tokenizer of transformers 4.33.

That is the original's. Later versions of transformers tokenise differently around control tokens, which moves a prompt
away from what the model was trained on.

Control tokens and text are kept apart. A prompt is a list of segments: `Token` for what a template puts there, plain
`str` for everything else. Text stays text: a user who types `</s>` or `<image>` sends those characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .tokenizer_files import TokenizerError, read_tokenizer_files

IMAGE_TOKEN_INDEX = -200
SPACE = "\u2581"  # how SentencePiece writes a space


@dataclass(frozen=True)
class Token:
    """A control token in a prompt, put there by a template and never by a user's text."""

    name: str


class Tag(Token):
    """A control token that a vocabulary may lack: it is then spelt, like a text."""


Segment = str | Token
IMAGE = Token("<image>")


class Tokenizer:
    """A checkpoint's tokenizer.

    Attributes:
        bos_id, eos_id, unk_id, pad_id: ids of the special tokens, None where the files name none.
        legacy: whether text after a control token starts with a space of its own (`legacy` null or true in the files).
        num_pieces: number of SentencePiece's own tokens, without added ones.
        special_ids: ids that `decode` skips: those of the files' special tokens, not those of `add_tokens`.
    """

    def __init__(self, directory: Path):
        """Read `tokenizer.model` and those of its JSON companions that exist.

        Raises:
            TokenizerError: `tokenizer.model` is missing or broken, or the added tokens do not fit it.
            ConfigError: a JSON companion cannot be read.
        """
        files = read_tokenizer_files(directory)
        self.legacy = files.legacy
        self._model = files.model
        self.num_pieces = files.model.get_piece_size()
        self._add_bos, self._add_eos = files.add_bos, files.add_eos
        self._special = frozenset(files.strips)
        # Per control token, special or added: whether it takes away whitespace on its left and on its right.
        self._strips = dict(files.strips)
        self._added: dict[str, int] = {}
        self._add_at(files.added, directory)
        self.add_tokens(list(files.strips))
        ids = {role: self.token_to_id(name) for role, name in files.roles.items()}
        self.bos_id, self.eos_id = ids.get("bos_token"), ids.get("eos_token")
        self.unk_id, self.pad_id = ids.get("unk_token"), ids.get("pad_token")
        self.special_ids = frozenset(map(self._control_id, self._special))

    def __len__(self) -> int:
        """Number of token ids, added ones included: the rows that an embedding needs."""
        return self.num_pieces + len(self._added)

    def add_tokens(self, names: Sequence[str]) -> None:
        """Make every name a control token; those the vocabulary lacks get the next free ids, in this order."""
        for name in names:
            self._add(name)
        longest_first = sorted(self._strips, key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)))

    def _add(self, name: str) -> None:
        if self.token_to_id(name) is None:
            self._added[name] = len(self)
        # Without a rule from the files it drops whitespace on both sides, as plain strings do in 4.33.
        self._strips.setdefault(name, (True, True))

    def token_to_id(self, name: str) -> int | None:
        """Id of a piece or an added token, None for a name that is neither (`<image>` has no id)."""
        if name in self._added:
            return self._added[name]
        index = self._model.piece_to_id(name)
        return index if self._model.id_to_piece(index) == name else None

    def token_bytes(self, index: int) -> bytes:
        """Bytes that a token adds to a text, its space included; none for control and added tokens."""
        model = self._model
        if index >= self.num_pieces or index in self.special_ids:
            return b""
        if model.is_control(index) or model.is_unknown(index) or model.is_unused(index):
            return b""
        piece = model.id_to_piece(index)
        return bytes([int(piece[1:-1], 16)]) if model.is_byte(index) else piece.replace(SPACE, " ").encode()

    def parse(self, text: str) -> list[Segment]:
        """Split a flat prompt as the original does: every `<image>` and control token name in it is that token.

        For trusted text only (the original's own prompts, training data). A user's text goes to `encode` as it is.
        """
        segments: list[Segment] = []
        for number, chunk in enumerate(text.split(IMAGE.name)):
            segments += [IMAGE] if number else []
            start = 0
            for match in self._control.finditer(chunk):
                segments += [chunk[start : match.start()], Token(match.group())]
                start = match.end()
            segments.append(chunk[start:])
        return [segment for segment in segments if segment != ""]

    def encode(self, segments: Sequence[Segment], image_token_id: int = IMAGE_TOKEN_INDEX) -> list[int]:
        """Token ids of a prompt, with one BOS in front.

        What stands between two images is tokenised on its own, so each stretch begins like a sentence; unless the
        vocabulary has a token for images, behind which a text goes on as behind any other.

        Args:
            segments: text and control tokens; neighbouring texts are one text.
            image_token_id: what to put where an image goes.

        Raises:
            TokenizerError: a `Token` that this tokenizer does not have.
        """
        texts = _between_images(segments)
        if (own := self._added.get(IMAGE.name)) is not None:
            ids = self._encode_chunk(texts[0] + [segment for chunk in texts[1:] for segment in (IMAGE, *chunk)])
            return [image_token_id if index == own else index for index in ids]
        chunks = [self._encode_chunk(chunk) for chunk in texts]
        shared = 1 if chunks[0][:1] == [self.bos_id] else 0
        ids = chunks[0][:shared]
        for number, chunk in enumerate(chunks):
            ids += [image_token_id] if number else []
            ids += chunk[shared:]
        return ids

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of token ids. Ids outside the vocabulary, such as an image's, render as nothing.

        Args:
            ids: any token ids; bytes that are no UTF-8 become U+FFFD.
            skip_special_tokens: leave out `special_ids`. Tokens of `add_tokens` stay, set off by spaces.
        """
        added = list(self._added)
        parts: list[str] = []
        pieces: list[str] = []
        for index in map(int, ids):
            if not 0 <= index < len(self) or (skip_special_tokens and index in self.special_ids):
                continue
            if index < self.num_pieces:
                pieces.append(self._model.id_to_piece(index))
                continue
            parts += [self._join(pieces)] if pieces else []
            parts.append(added[index - self.num_pieces])
            pieces = []
        parts += [self._join(pieces)] if pieces else []
        return " ".join(parts)

    def _join(self, pieces: list[str]) -> str:
        """Text of one or more pieces: special tokens stand verbatim between runs that are decoded separately."""
        text = ""
        run: list[str] = []
        after_text = False
        for piece in [pieces[0].removeprefix(SPACE), *pieces[1:]]:
            if piece not in self._special:
                run.append(piece)
                after_text = True
                continue
            # The legacy space goes before the run, not between it and the token: a quirk of the original.
            text += " " if self.legacy and after_text else ""
            text += self._model.decode(run) + piece
            run, after_text = [], False
        return text + self._model.decode(run)

    def _encode_chunk(self, chunk: list[Segment]) -> list[int]:
        """Token ids of what stands between two images, framed by BOS and EOS as the files say."""
        self._check_tokens(chunk)
        if chunk and not self.legacy:
            chunk = _with_leading_space(chunk)
        chunk = self._strip_around_tokens(chunk)
        if not self.legacy and chunk[:1] == [SPACE] and self._is_special(chunk[1:2]):
            chunk = chunk[1:]
        ids = _frame("bos_token", self.bos_id) if self._add_bos else []
        for segment in chunk:
            ids += [self._control_id(segment.name)] if isinstance(segment, Token) else self._encode_text(segment)
        return ids + (_frame("eos_token", self.eos_id) if self._add_eos else [])

    def _control_id(self, name: str) -> int:
        """Id of a control token, which is in the vocabulary or was added to it."""
        index = self.token_to_id(name)
        if index is None:
            raise TokenizerError(f"the tokenizer has no token {name}: add_tokens() it first")
        return index

    def _is_special(self, chunk: list[Segment]) -> bool:
        return any(isinstance(segment, Token) and segment.name in self._special for segment in chunk)

    def _check_tokens(self, chunk: list[Segment]) -> None:
        for segment in chunk:
            if isinstance(segment, Token) and segment.name not in self._strips:
                raise TokenizerError(
                    f"the prompt contains the token {segment.name}, but the tokenizer only has "
                    f"{', '.join(sorted(self._strips))}: use a template of this model, or add_tokens() it first"
                )

    def _strip_around_tokens(self, chunk: list[Segment]) -> list[Segment]:
        """Drop the whitespace that control tokens take away from the text beside them."""
        chunk = list(chunk)
        for number, segment in enumerate(chunk):
            if not isinstance(segment, Token) or segment == IMAGE:
                continue
            left, right = self._strips[segment.name]
            if left and number and isinstance(before := chunk[number - 1], str):
                chunk[number - 1] = before.rstrip()
            if right and number + 1 < len(chunk) and isinstance(after := chunk[number + 1], str):
                chunk[number + 1] = after.lstrip()
        return chunk

    def _encode_text(self, text: str) -> list[int]:
        if self.legacy or not text.startswith((SPACE, " ")):
            return self._model.encode(text)
        # SentencePiece may drop a space at the start of a sentence; behind another text it keeps it.
        front = self._model.id_to_piece(self._model.unk_id())
        return self._model.encode(front + text)[len(self._model.encode(front)) :]

    def _add_at(self, names: dict[int, str], directory: Path) -> None:
        """Add tokens, whose ids must be those that come out of adding them in order."""
        for index, name in names.items():
            self._add(name)
            if index != self.token_to_id(name):
                raise TokenizerError(
                    f"{directory}: the added token {name} has id {index} there, but {self.token_to_id(name)} with this "
                    "tokenizer.model. The files belong to different models: copy all of them from one checkpoint"
                )


def _frame(role: str, index: int | None) -> list[int]:
    """Id that every text begins or ends with."""
    if index is None:
        raise TokenizerError(
            f"the tokenizer files have add_{role} true and no {role}: copy them from the checkpoint again"
        )
    return [index]


def _between_images(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Chunks of a prompt between its images, with neighbouring texts joined and empty ones dropped."""
    chunks: list[list[Segment]] = [[]]
    for segment in segments:
        chunk = chunks[-1]
        if segment == IMAGE:
            chunks.append([])
        elif isinstance(segment, str) and chunk and isinstance(chunk[-1], str):
            chunk[-1] += segment
        elif segment != "":
            chunk.append(segment)
    return chunks


def _with_leading_space(chunk: list[Segment]) -> list[Segment]:
    """Chunk with the space in front that SentencePiece no longer adds, before text and control tokens alike."""
    chunk = [segment.replace(SPACE, " ") if isinstance(segment, str) else segment for segment in chunk]
    return [SPACE + chunk[0], *chunk[1:]] if isinstance(chunk[0], str) else [SPACE, *chunk]
