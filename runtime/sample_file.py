"""A bundle's sample, read and compared with the model's sizes before a stage is given any of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mobilevlm.engines.bundle import Bundle
from mobilevlm.engines.stages import BUILT, FIRST_LOGITS, GOLDEN_FILE, IMAGE_EMBEDS, LOGITS, PIXEL_VALUES
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

INPUT_IDS, TOKENS, ANSWER = "input_ids", "tokens", "answer"


def read_sample(bundle: Bundle) -> dict[str, np.ndarray]:
    """Reads a bundle's sample.

    Returns:
        Tensors by name: inputs of the sample, PyTorch's outputs and, prefixed with `BUILT`, those of the build's own
        stages.

    Raises:
        BundleError: it is damaged, or does not fit the bundle's model.
    """
    try:
        sample = load_file(bundle.file(GOLDEN_FILE))
        _check(bundle, sample)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise bundle.damaged(f"its sample, {GOLDEN_FILE}, cannot be used: {reason}") from None
    return sample


def answer_of(sample: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the tokens that PyTorch was given behind the prompt; a bundle of an older version does not say."""
    return sample.get(ANSWER, sample[TOKENS][:-1])


def _check(bundle: Bundle, sample: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError or KeyError for tensors of other shapes or dtypes than the model's, or ids it does not have."""
    config, image_tokens = bundle.config, bundle.manifest.num_image_tokens
    ids, tokens, answer = sample[INPUT_IDS], sample[TOKENS], answer_of(sample)
    for name, one in ((INPUT_IDS, ids), (TOKENS, tokens), (ANSWER, answer)):
        if one.ndim != 1 or one.dtype.kind not in "iu" or not len(ids) or not len(tokens):
            raise ValueError(f"{name} is {one.dtype} {one.shape}")
        known = (one >= 0) & (one < config.vocab_size) | ((one == IMAGE_TOKEN_INDEX) & (one is ids))
        if not known.all():
            raise ValueError(f"{name} has token {one[~known][0]}, the model has {config.vocab_size}")
    shown = int((ids == IMAGE_TOKEN_INDEX).sum())
    rows = len(ids) + shown * (image_tokens - 1) + len(answer)
    if rows < 2 or rows > bundle.manifest.max_context or shown > int(bundle.has_vision):
        raise ValueError(f"it has {rows} tokens and {shown} images, the kv cache {bundle.manifest.max_context} tokens")
    shapes: dict[str, tuple[int, ...]] = {LOGITS: (len(answer) + 1, config.vocab_size)}
    if FIRST_LOGITS in sample:
        shapes[FIRST_LOGITS] = (1, config.vocab_size)
    if bundle.has_vision:
        edge = config.tower.image_size
        shapes[PIXEL_VALUES] = (1, 3, edge, edge)
        shapes[IMAGE_EMBEDS] = (1, image_tokens, config.hidden_size)
    for name, shape in shapes.items():
        for key in (name, f"{BUILT}{name}"):
            found = sample[key] if key == name else sample.get(key)
            if found is None:
                continue
            if found.dtype.kind != "f" or found.shape != shape:
                raise ValueError(f"{key} is {found.dtype} {found.shape}, the model needs {shape}")
