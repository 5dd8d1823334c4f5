"""One interface to a checkpoint and to an engine bundle: prompts and `pixel_values` in, greedy text out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.bundle import Bundle
from mobilevlm.errors import UserError, user_path
from mobilevlm.image import ImageError, ImageSpec, load_image, read_pixels
from mobilevlm.packages import require

from .task import Question

if TYPE_CHECKING:
    from mobilevlm import MobileVLM
    from mobilevlm.runtime.session import Session

Asked = tuple[str, np.ndarray | None]


class Engine(Protocol):
    """A model that answers questions, see `PyTorchEngine` and `BundleEngine`.

    Attributes:
        config: of the model.
        conv_mode: name of the conversation template.
        identity: what its answers depend on: answers of the same identity can be in one run.
    """

    config: ModelConfig
    conv_mode: str
    identity: dict[str, str]

    def open(self) -> None:
        """Load the model, unless that is done.

        Raises:
            UserError: it cannot be loaded here.
        """

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answer single questions greedily.

        Args:
            asked: prompts without template, each with its image (1, 3, H, W) float32 or None.
            max_new_tokens: upper bound on the length of each answer.

        Raises:
            UserError: one of them cannot be asked, for example because its prompt is too long.
        """


class PyTorchEngine:
    """A checkpoint, run by PyTorch."""

    def __init__(self, model: str, conv_mode: str | None, dtype: str | None = None, base: str | None = None):
        """Read a checkpoint's headers; its weights are loaded by `open`, onto a GPU where there is one.

        Args:
            model: directory or hub id.
            conv_mode: name of the conversation template; None for the model's own.
            dtype: `fp32`, `fp16` or `bf16`; None for float16 on a GPU and float32 elsewhere.
            base: the model a LoRA directory was trained on, when not where it says.

        Raises:
            UserError: PyTorch is not installed, or see `open_checkpoint`.
        """
        require("--model", "torch", "transformers", extra="export")
        import torch

        from mobilevlm.checkpoint.checkpoint import open_checkpoint

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = dtype or ("fp16" if self.device == "cuda" else "fp32")
        checkpoint = open_checkpoint(model, base)
        self.config, self._base = checkpoint.config, base
        self.conv_mode = conv_mode or self.config.conv_mode
        path = user_path(model)
        named = str(path.resolve()) if path.is_dir() else model
        self.identity = {"model": named, "files": _files_digest(path), "dtype": self.dtype, "device": self.device}
        if checkpoint.base_dir:
            self.identity |= {"base": str(checkpoint.base_dir), "base files": _files_digest(checkpoint.base_dir)}
        self._model: MobileVLM | None = None

    def open(self) -> None:
        """See `Engine.open`."""
        self._opened()

    def _opened(self) -> MobileVLM:
        if self._model is None:
            from mobilevlm import MobileVLM

            self._model = MobileVLM.from_pretrained(
                self.identity["model"], dtype=self.dtype, device=self.device, base=self._base
            )
        return self._model

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answer all questions in one batch, see `Engine.answer`.

        Args:
            asked: prompts without template, each with its image (1, 3, H, W) float32 or None.
            max_new_tokens: upper bound on the length of each answer.
        """
        from mobilevlm.model.batch import answer_batch

        return answer_batch(self._opened(), asked, conv_mode=self.conv_mode, max_new_tokens=max_new_tokens)


class BundleEngine:
    """An engine bundle for any target, run by the runtime."""

    def __init__(self, directory: str, conv_mode: str | None, on_cpu: bool = False):
        """Read a bundle's manifest; its engines are loaded by `open`.

        Args:
            directory: of the bundle.
            conv_mode: name of the conversation template; None for the model's own.
            on_cpu: run a bundle for another device on this CPU, see `Session`.

        Raises:
            BundleError: see `Bundle.open`.
        """
        bundle = Bundle.open(directory)
        self.config, self._on_cpu = bundle.config, on_cpu
        self.conv_mode = conv_mode or self.config.conv_mode
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
        self._opened()

    def _opened(self) -> Session:
        if self._session is None:
            from mobilevlm.runtime.session import Session

            self._session = Session(self.identity["engine"], on_cpu=self._on_cpu)
        return self._session

    def close(self) -> None:
        """Free the engines' memory; `open` loads them again."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def answer(self, asked: Sequence[Asked], max_new_tokens: int) -> list[str]:
        """Answer one question after the other, see `Engine.answer`.

        Args:
            asked: prompts without template, each with its image (1, 3, H, W) float32 or None.
            max_new_tokens: upper bound on the length of each answer.
        """
        chat = partial(self._opened().chat, conv_mode=self.conv_mode, max_new_tokens=max_new_tokens)
        return ["".join(chat(prompt, pixels)) for prompt, pixels in asked]


def open_engine(
    model: str | None,
    engine: str | None,
    conv_mode: str | None,
    dtype: str | None,
    on_cpu: bool = False,
    base: str | None = None,
) -> Engine:
    """Engine of a checkpoint or of a bundle, whichever is given.

    Args:
        model: checkpoint, by directory or hub id.
        engine: directory of a bundle.
        conv_mode: name of the conversation template; None for the model's own.
        dtype: for a checkpoint, see `PyTorchEngine`.
        on_cpu: for a bundle, see `BundleEngine`.
        base: for a LoRA, see `PyTorchEngine`.

    Raises:
        UserError: neither is given, or what is given cannot be opened.
    """
    if model:
        return PyTorchEngine(model, conv_mode, dtype, base)
    if engine:
        return BundleEngine(engine, conv_mode, on_cpu)
    raise UserError("give a checkpoint or a bundle: --model or --engine")


def pixels_of(question: Question, config: ModelConfig) -> np.ndarray | None:
    """Preprocessed image of a question.

    Args:
        question: perhaps with an image.
        config: of a model that has vision, if there is an image.

    Returns:
        `pixel_values` as `image.read_pixels` returns them, or None for a question without an image.

    Raises:
        ImageError: the image cannot be read.
    """
    if question.image is None:
        return None
    spec = ImageSpec.of(config)
    if question.square and spec.aspect_ratio == "pad":
        spec = replace(spec, aspect_ratio=None)
    return read_pixels(load_image(question.image), spec)


def ask(engine: Engine, questions: Sequence[Question]) -> list[tuple[str, str | None]]:
    """Ask some questions in one batch, or each on its own where one of them cannot be asked.

    Args:
        engine: opened, and with vision if there are images, so that what it refuses is a question.
        questions: with the same `max_new_tokens`.

    Returns:
        For each question its answer and None, or "" and why it could not be asked.
    """
    images: list[np.ndarray | ImageError | None] = []
    for question in questions:
        try:
            images.append(pixels_of(question, engine.config))
        except ImageError as error:
            images.append(error)
    results: list[tuple[str, str | None]] = [("", str(image)) for image in images]
    readable = {i: image for i, image in enumerate(images) if not isinstance(image, ImageError)}
    asked = [(questions[i].text, image) for i, image in readable.items()]
    limit = max(question.max_new_tokens for question in questions)
    try:
        texts: list[tuple[str, str | None]] = [(text, None) for text in engine.answer(asked, limit)] if asked else []
    except UserError as error:
        # One has too long a prompt or no UTF-8 text: the others can be asked, each on its own.
        texts = [("", str(error))] if len(asked) == 1 else [ask(engine, [questions[i]])[0] for i in readable]
    for i, result in zip(readable, texts, strict=True):
        results[i] = result
    return results


def _files_digest(directory: Path) -> str:
    """SHA-256 of names, sizes and times of a checkpoint's files; the id itself where it is one of the hub."""
    if not directory.is_dir():
        return str(directory)
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    known = [f"{path.relative_to(directory)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()
