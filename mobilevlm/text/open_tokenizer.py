"""Opens the tokenizer that a directory holds: SentencePiece's, or a byte-level one."""

from __future__ import annotations

from pathlib import Path

from .byte_level import ByteLevelTokenizer
from .byte_level_files import is_byte_level
from .tokenizer import Tokenizer


def open_tokenizer(directory: Path) -> Tokenizer:
    """Reads the tokenizer of a checkpoint or bundle.

    Raises:
        TokenizerError: its files are missing or broken, or a package that it needs is.
        ConfigError: a JSON file cannot be read.
    """
    return ByteLevelTokenizer(directory) if is_byte_level(directory) else Tokenizer(directory)
