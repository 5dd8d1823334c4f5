"""A checkpoint or an engine bundle behind one face: prompts and pixels in, greedy text out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.image import ImageError, ImageSpec, load_image, preprocess

from .packages import require
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

    def open(self) -> None:
        """Load what answers, unless that is done.

        Raises:
            UserError: it cannot be loaded here.
        """

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Greedy answers to single questions, each with a picture (1, 3, H, W) float32 or None; once opened.

        Raises:
            UserError: one of them cannot be asked, because its prompt is too long, say.
        """


class PyTorchEngine:
    """A checkpoint, run by PyTorch."""

    def __init__(self, model: str, conv_mode: str, dtype: str | None = None):
        """Look at a checkpoint: on a GPU in float16 where there is one, else in float32; `dtype` says otherwise.

        Raises:
            UserError: PyTorch is not installed, or see `open_checkpoint`.
        """
        require("--model", "torch", "transformers", extra="export")
        import torch

        from mobilevlm.checkpoint.checkpoint import open_checkpoint

        self.conv_mode, self.device = conv_mode, "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = dtype or ("fp16" if self.device == "cuda" else "fp32")
        self.config = open_checkpoint(model).config
        path = user_path(model)
        named = str(path.resolve()) if path.is_dir() else model
        self.identity = {"model": named, "files": _files_digest(path), "dtype": self.dtype, "device": self.device}
        self._model: MobileVLM | None = None

    def open(self) -> None:
        """See `Engine.open`."""
        if self._model is None:
            from mobilevlm import MobileVLM

            self._model = MobileVLM.from_pretrained(self.identity["model"], dtype=self.dtype, device=self.device)

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """See `Engine.answer`; all at once."""
        from mobilevlm.model.batch import answer_batch

        return answer_batch(self._model, asked, conv_mode=self.conv_mode, max_new_tokens=max_new_tokens)


class BundleEngine:
    """A bundle for any target."""

    def __init__(self, directory: str, conv_mode: str, on_cpu: bool = False):
        """Look at a bundle; `on_cpu` as `Session` has it.

        Raises:
            BundleError: see `Bundle.open`.
        """
        bundle = Bundle.open(directory)
        self.conv_mode, self.config, self._on_cpu = conv_mode, bundle.config, on_cpu
        precision = ",".join(f"{stage}={name}" for stage, name in sorted(bundle.manifest.precision.items()))
        self.identity = {
            "engine": str(bundle.directory.resolve()),
            "files": bundle.manifest.seal,
            "target": bundle.manifest.target,
            "precision": precision,
        } | ({"runs on": "cpu"} if on_cpu else {})
        self._session: Session | None = None

    def open(self) -> None:
        """See `Engine.open`."""
        if self._session is None:
            from mobilevlm.runtime.session import Session

            self._session = Session(self.identity["engine"], on_cpu=self._on_cpu)

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """See `Engine.answer`; one after the other."""
        options = {"conv_mode": self.conv_mode, "max_new_tokens": max_new_tokens}
        return ["".join(self._session.chat(prompt, pixels, **options)) for prompt, pixels in asked]


def open_engine(
    model: str | None, engine: str | None, conv_mode: str, dtype: str | None, on_cpu: bool = False
) -> Engine:
    """Whichever of the two is given."""
    return PyTorchEngine(model, conv_mode, dtype) if model else BundleEngine(engine, conv_mode, on_cpu)


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
    """Answers to a few questions of like `max_new_tokens`: each with None, or with what was wrong and no text.

    Args:
        engine: opened, and with vision if there are pictures, so that what it refuses is a question.
        questions: the few.
    """
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
        # One has too long a prompt or no UTF-8 text: the others can be asked, each on its own.
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
