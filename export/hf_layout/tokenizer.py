"""Writes `tokenizer.json` and its companions out of a checkpoint's SentencePiece files.

The ids are those of this project's tokenizer, with one more token for an image; a build compares them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers.convert_slow_tokenizer import generate_merges

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.errors import UserError
from mobilevlm.text.prompt import TEMPLATES, Conversation
from mobilevlm.text.tokenizer_files import TokenizerFiles, read_tokenizer_files

from .chat_template import chat_template
from .names import IMAGE_TOKEN

SPACE = "\u2581"
UNIGRAM, BPE = 1, 2  # SentencePiece's kinds of model
NORMAL, USER_DEFINED = 1, 4  # its kinds of pieces
# Compared at every build: spaces at both ends and in rows, what only bytes have, digits, a line break.
TEXTS = ("What is in the picture?", "  two  spaces ", "naïve 北京 \U0001f600 x\ty", "3.14159, 1000000\nand so on.", " ")


def write_tokenizer(checkpoint: Checkpoint, directory: Path) -> int:
    """Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja`.

    transformers.js looks for the chat template in the tokenizer's configuration, a processor of transformers beside it.

    Args:
        checkpoint: the model.
        directory: receives the files.

    Returns:
        Id of the image token, the first that is free.

    Raises:
        UserError: the tokenizer's kind is not supported, or the ids that come out are not this project's.
    """
    files = read_tokenizer_files(checkpoint.tokenizer_dir)
    made = _tokenizer(checkpoint, files)
    _compare(checkpoint, made)
    made.save(str(directory / "tokenizer.json"))
    roles = {role: name for role, name in files.roles.items() if role in ("bos_token", "eos_token", "unk_token")}
    roles["pad_token"] = files.roles.get("pad_token") or roles["unk_token"]
    template = chat_template(checkpoint.config.mm_use_im_start_end)
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    config: dict[str, Any] = {
        "add_bos_token": False,  # it is in the chat template
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "image_token": IMAGE_TOKEN,
        "model_max_length": checkpoint.config.max_position_embeddings,
        "padding_side": "left",
        "processor_class": "LlavaProcessor",
        "tokenizer_class": "PreTrainedTokenizerFast",
        **roles,
        "chat_template": template,
    }
    _write_json(directory / "tokenizer_config.json", config)
    _write_json(directory / "special_tokens_map.json", roles | {"image_token": IMAGE_TOKEN})
    return made.get_vocab()[IMAGE_TOKEN]


def _tokenizer(checkpoint: Checkpoint, files: TokenizerFiles) -> Tokenizer:
    path = checkpoint.tokenizer_dir / "tokenizer.model"
    # protobuf makes the module's classes when it is imported.
    proto = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())  # type: ignore[attr-defined]
    made = Tokenizer(_model(proto, path))
    prefix = proto.normalizer_spec.add_dummy_prefix
    if files.legacy:
        first = [normalizers.Prepend(SPACE)] if prefix else []
        made.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    else:
        scheme = "first" if prefix else "never"
        made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    made.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    made.add_tokens([AddedToken(p.piece, normalized=False) for p in proto.pieces if p.type == USER_DEFINED])
    ours = checkpoint.tokenizer()
    ids = {name: ours.token_to_id(name) for name in (*files.strips, *files.added.values())}
    ids |= {name: ours.token_to_id(name) for name in checkpoint.config.control_tokens}
    for name, index in sorted(ids.items(), key=lambda item: item[1] or 0):
        left, right = files.strips.get(name, (True, True))
        made.add_tokens([AddedToken(name, lstrip=left, rstrip=right, normalized=False, special=name in files.strips)])
        if made.token_to_id(name) != index:
            raise UserError(
                f"{path.parent}: {name} has id {index} and would get {made.token_to_id(name)} in tokenizer.json: "
                "this tokenizer cannot be written in Hugging Face's form"
            )
    made.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)])
    return made


def _model(proto: Any, path: Path) -> models.BPE | models.Unigram:
    """The pieces and how they are joined; the transformers package knows the order of merges."""
    spec, kind = proto.trainer_spec, proto.trainer_spec.model_type
    if kind == UNIGRAM:
        pieces = [(piece.piece, piece.score) for piece in proto.pieces]
        return models.Unigram(pieces, unk_id=spec.unk_id, byte_fallback=spec.byte_fallback)
    if kind != BPE or proto.normalizer_spec.precompiled_charsmap:
        raise UserError(
            f"{path} is a SentencePiece model of type {kind} with the normalisation {proto.normalizer_spec.name!r}: "
            "--layout hf takes LLaMA's kind, type 2 with 'identity'"
        )
    vocabulary = {piece.piece: index for index, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces}
    merges = generate_merges(vocabulary, scores, [piece.piece for piece in proto.pieces if piece.type != NORMAL])
    return models.BPE(
        vocabulary, merges, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=spec.byte_fallback, dropout=None
    )


def _compare(checkpoint: Checkpoint, made: Tokenizer) -> None:
    """Refuse a tokenizer whose ids differ from this project's, alone or in a prompt."""
    ours = checkpoint.tokenizer()
    prompt = Conversation(TEMPLATES["v1"])
    prompt.ask(TEXTS[0])
    prompt.answer(TEXTS[1].strip())
    prompt.ask(TEXTS[2])
    for segments, text in [([text], text) for text in TEXTS] + [(prompt.segments(), prompt.prompt())]:
        wanted = ours.encode(segments)
        wanted = wanted[1:] if wanted[:1] == [ours.bos_id] else wanted
        found = made.encode(text, add_special_tokens=False).ids
        if found != wanted:
            raise UserError(
                f"{checkpoint.tokenizer_dir}: tokenizer.json would tokenise {text!r} to {found}, this project's "
                f"tokenizer to {wanted}: its files cannot be written in Hugging Face's form"
            )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
