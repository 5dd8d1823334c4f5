"""Trains a LLaMA-style tokenizer on your own texts: SentencePiece BPE with split digits and byte fallback.

python train/train_tokenizer.py --data data/demo/text.jsonl data/demo/conversations.json --vocab-size 1024 --out DIR
"""

from __future__ import annotations

import argparse
import io
import json
import string
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from mobilevlm.commands import run_command
from mobilevlm.errors import UserError, user_path
from mobilevlm.text.templates import TEMPLATES
from mobilevlm.train.texts import read_texts

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
SMALLEST = 4 + 256  # control tokens and bytes
PROMPTS = 30_000


def parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    self = argparse.ArgumentParser(
        prog="train_tokenizer.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    self.add_argument("--data", required=True, nargs="+", metavar="FILE", help=".jsonl, .json or .txt, see texts.py")
    self.add_argument("--vocab-size", type=int, default=32000, metavar="N", help="pieces (default: %(default)s)")
    self.add_argument("--out", required=True, metavar="DIR", help="where tokenizer.model and its companions go")
    return self


def _train(args: argparse.Namespace) -> None:
    train_tokenizer([user_path(name) for name in args.data], args.vocab_size, user_path(args.out))


def train_tokenizer(files: Sequence[Path], vocab_size: int, out: Path) -> None:
    """Writes `tokenizer.model`, `tokenizer_config.json` and `special_tokens_map.json` with LLaMA's settings.

    Args:
        files: texts, see `texts.read_texts`.
        vocab_size: number of pieces, with control tokens and bytes.
        out: directory to write to.

    Raises:
        UserError: a file cannot be read, or holds too little text for so many pieces.
    """
    if vocab_size <= SMALLEST:
        raise UserError(f"--vocab-size {vocab_size} leaves no room: control tokens and bytes take {SMALLEST}")
    model = _bpe_model(files, vocab_size)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.model").write_bytes(model)
    token = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special: dict[str, Any] = {role: {"content": name} | token for role, name in SPECIAL.items()}
    config: dict[str, Any] = {role: {"__type": "AddedToken"} | entry for role, entry in special.items()}
    config |= {"add_bos_token": True, "add_eos_token": False, "legacy": None, "model_max_length": 2048}
    config |= {"padding_side": "right", "tokenizer_class": "LlamaTokenizer", "clean_up_tokenization_spaces": False}
    _write(out / "tokenizer_config.json", config)
    _write(out / "special_tokens_map.json", special | {"pad_token": special["unk_token"]})


def _bpe_model(files: Sequence[Path], vocab_size: int) -> bytes:
    """Contents of `tokenizer.model`, with LLaMA's settings."""
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=_sentences(files),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=0.9999,
            required_chars=string.printable[:95].replace(" ", ""),
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=1 << 16,
            input_sentence_size=1_000_000,
            shuffle_input_sentence=False,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,  # the same model on every machine
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(f"SentencePiece cannot make {vocab_size} pieces of these texts: {error}") from None
    return model.getvalue()


def _sentences(files: Sequence[Path]) -> Iterator[str]:
    """Lines of the texts, and the system prompt often enough that it takes few tokens."""
    for _ in range(PROMPTS):
        yield f"{TEMPLATES['v1'].system} USER: \n ASSISTANT:"
    for path in files:
        for text in read_texts(path):
            yield from text.splitlines()


def _write(path: Path, values: dict) -> None:
    path.write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n")


def main() -> None:
    """Entry point of the command."""
    run_command(parser(), _train)


if __name__ == "__main__":
    main()
