"""A checkpoint or an engine bundle behind one face: prompts and pixels in, greedy text out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mobilevlm.config import ModelConfig
from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.image import ImageError, ImageSpec, load_image, preprocess

from .task import Question

if TYPE_CHECKING:
    from mobilevlm import MobileVLM
    from mobilevlm.runtime.session import Session

Asked = tuple[str, np.ndarray | None]


class Engine(Protocol):
    """What answers.

    Attributes:
        config: of the model.
        identity: what makes its answers its own: of the same identity, two runs can be one.
    """

    config: ModelConfig
    identity: dict[str, str]

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Greedy answers to single questions, each with a picture (1, 3, H, W) float32 or None.

        Raises:
            UserError: the model cannot take one of them.
        """


class Checkpoint:
    """A PyTorch model; its weights are loaded when the first question comes."""

    def __init__(self, model: str, conv_mode: str, dtype: str | None = None):
        """Look at a checkpoint: on a GPU in float16 where there is one, else in float32; `dtype` says otherwise.

        Raises:
            UserError: see `open_checkpoint`.
        """
        import torch

        from mobilevlm.checkpoint import open_checkpoint

        self.conv_mode, self.device = conv_mode, "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = dtype or ("fp16" if self.device == "cuda" else "fp32")
        self.config = open_checkpoint(model).config
        files = _files_digest(user_path(model))
        self.identity = {"model": model, "files": files, "dtype": self.dtype, "device": self.device}

    @cached_property
    def _model(self) -> MobileVLM:
        from mobilevlm import MobileVLM

        return MobileVLM.from_pretrained(self.identity["model"], dtype=self.dtype, device=self.device)

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """See `Engine.answer`; all at once."""
        from mobilevlm.batch import answer_batch

        return answer_batch(self._model, asked, conv_mode=self.conv_mode, max_new_tokens=max_new_tokens)


class BundleEngine:
    """A bundle for any target; its stages are opened when the first question comes."""

    def __init__(self, directory: str, conv_mode: str):
        """Look at a bundle.

        Raises:
            BundleError: see `Bundle.open`.
        """
        bundle = Bundle.open(directory)
        self.conv_mode, self.config = conv_mode, bundle.config
        precision = ",".join(f"{stage}={name}" for stage, name in sorted(bundle.manifest.precision.items()))
        self.identity = {
            "engine": directory,
            "files": bundle.manifest.seal,
            "target": bundle.manifest.target,
            "precision": precision,
        }

    @cached_property
    def _session(self) -> Session:
        from mobilevlm.runtime.session import Session

        return Session(self.identity["engine"])

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """See `Engine.answer`; one after the other."""
        options = {"conv_mode": self.conv_mode, "max_new_tokens": max_new_tokens}
        return ["".join(self._session.chat(prompt, pixels, **options)) for prompt, pixels in asked]


def open_engine(model: str | None, engine: str | None, conv_mode: str, dtype: str | None) -> Engine:
    """Whichever of the two is given."""
    return Checkpoint(model, conv_mode, dtype) if model else BundleEngine(engine, conv_mode)


def pixels_of(question: Question, config: ModelConfig) -> np.ndarray | None:
    """A question's picture as the model takes it, or None.

    Raises:
        ImageError: it cannot be read.
    """
    if question.image is None:
        return None
    spec = ImageSpec.of(config)
    if question.square:
        spec = replace(spec, aspect_ratio=None)
    return preprocess(load_image(question.image), spec)


def ask(engine: Engine, questions: Sequence[Question]) -> list[tuple[str, str | None]]:
    """Answers to a few questions of like `max_new_tokens`: each with None, or with what was wrong and no text."""
    pictures: list[Any] = []
    for question in questions:
        try:
            pictures.append(pixels_of(question, engine.config))
        except ImageError as error:
            pictures.append(error)
    good = [i for i, picture in enumerate(pictures) if not isinstance(picture, ImageError)]
    results: list[tuple[str, str | None]] = [("", str(picture)) for picture in pictures]
    asked = [(questions[i].text, pictures[i]) for i in good]
    limit = max(question.max_new_tokens for question in questions)
    try:
        texts: list[tuple[str, str | None]] = [(text, None) for text in engine.answer(asked, limit)] if asked else []
    except UserError as error:
        # One of them cannot be asked (too long a prompt, say): the others can, each on its own.
        texts = [("", str(error))] if len(asked) == 1 else [ask(engine, [questions[i]])[0] for i in good]
    for i, result in zip(good, texts, strict=True):
        results[i] = result
    return results


def _files_digest(directory: Path) -> str:
    """Names, sizes and times of a checkpoint's files; the name alone where it is one on the hub."""
    if not directory.is_dir():
        return str(directory)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    known = [f"{path.relative_to(directory)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()
