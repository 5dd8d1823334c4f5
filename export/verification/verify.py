"""Verifies every stage against PyTorch, before a bundle exists.

Three comparisons, each of which finds what the others cannot: the weights that were written, with the checkpoint's
(`weight_check.py`); what the stages compute, with PyTorch on the weights that were written, layer by layer of the kv
cache (`written_form.py`); and with PyTorch on the checkpoint's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.engines import stages
from mobilevlm.engines.embed_tokens import as_float32
from mobilevlm.text.prompt import IMAGE_TOKEN_INDEX

from ..precisions import precision
from .differences import Difference, Verification, VerificationError, difference, require, require_room
from .form_check import Form, compare_with_forms
from .reference import Reference, make_sample, prompt_rows, question_rows
from .stage_weights import check_stages
from .stages import Stages
from .written_weights import Written

__all__ = ["Difference", "Verification", "VerificationError", "rows_needed", "verify"]

DECODE_STEPS = 4


def rows_needed(checkpoint: Checkpoint) -> int:
    """Returns the rows of the kv cache that verification fills."""
    return prompt_rows(checkpoint) + DECODE_STEPS


def verify(
    checkpoint: Checkpoint,
    written: Written,
    directory: Path,
    runs: Stages,
    table: np.ndarray,
    modules: Mapping[str, str],
    cache_rows: int,
) -> Verification:
    """Compares a build's stages with PyTorch.

    Args:
        checkpoint: the truth.
        written: the graphs, and the tensors they were written from.
        directory: where they are.
        runs: what runs them, on a kv cache of at least `rows_needed` rows.
        table: the stored embedding table, V rows (`engines/embed_tokens.py`).
        modules: stage to the module of its precision, for the tolerances.
        cache_rows: of the kv cache that the graphs were written for.

    Raises:
        VerificationError: a weight is not the checkpoint's, a difference is beyond its floor or tolerance, or a value
            nearly beyond float16.
        UserError: PyTorch itself computes something that is not finite.
    """
    noise = check_stages(checkpoint, written, directory, table, cache_rows)
    with tqdm(desc="verifying against PyTorch", unit="layer", disable=None) as progress:
        sample = make_sample(checkpoint)
        reference = Reference(checkpoint, sample, progress.update)
        progress.total = len(reference.layers()) * (1 + len(written.graphs)) + DECODE_STEPS + 1
        outputs: dict[str, dict[str, np.ndarray]] = {}
        if sample.pixel_values is not None:
            outputs[stages.VISION] = {stages.IMAGE_EMBEDS: runs.encode_image(sample.pixel_values.numpy())}
        rows = _prompt(sample.input_ids, table, reference.golden.get(stages.IMAGE_EMBEDS))
        first = len(rows) - question_rows(len(rows))
        tokens, prefilled, outputs[stages.DECODER] = _answer(runs, table, rows, first, progress.update)
        if prefilled is not None:
            outputs[stages.PREFILL] = {stages.FIRST_LOGITS: prefilled}
        caches = {stages.DECODER: runs.caches(len(rows) + DECODE_STEPS)}
        reference.follow(tokens, first)
        form = Form(checkpoint, written, directory, noise, progress.update)
        answer = [as_float32(table[[token]]) for token in tokens[:-1]]
        all_rows = np.concatenate([rows, *answer])[None]
        unrounded = runs.unrounded(reference.golden.get(stages.PIXEL_VALUES), rows[:first])
        found = compare_with_forms(form, reference.golden, all_rows, outputs, caches, unrounded, first)
    for stage, tensors in outputs.items():
        for name, got in tensors.items():
            own = stage.split(".")[0]
            tolerance = precision(modules[written.written_from.get(own, own)]).FACTS.tolerance
            found.append(difference(stage, name, got, reference.golden[name], tolerance, form.floor(stage)))
    require(found)
    peaks = runs.peaks()
    require_room(peaks)
    built = {f"{stages.BUILT}{name}": got for one in _own(outputs) for name, got in one.items()}
    return Verification(found, reference.golden | built, peaks)


def _prompt(ids: list[int], table: np.ndarray, image_embeds: np.ndarray | None) -> np.ndarray:
    """Rows (S, D) float32 of a prompt, as a runtime takes them from the stored table; the image's are PyTorch's."""
    own = [] if image_embeds is None else [image_embeds[0]]  # a sample has one image, or none
    return np.concatenate([own[0] if token == IMAGE_TOKEN_INDEX else as_float32(table[[token]]) for token in ids])


def _own(outputs: Mapping[str, dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Outputs of the stages that a device runs the sample through, a mapping each."""
    return [outputs[stage] for stage in (stages.VISION, stages.DECODER, stages.PREFILL) if stage in outputs]


def _answer(
    runs: Stages,
    table: np.ndarray,
    rows: np.ndarray,
    first: int,
    on_step: Callable[[], object],
) -> tuple[list[int], np.ndarray | None, dict[str, np.ndarray]]:
    """Run a prompt in two parts, then an answer token by token.

    Args:
        runs: the stages.
        table: of embeddings.
        rows: (S, D), the prompt.
        first: rows of the first part.
        on_step: called after each.

    Returns:
        The answer, logits of the prefill's last row where there is one, and the decoder's outputs by name.
    """
    prefilled = runs.prefill(rows[:first])
    outputs = {} if prefilled is not None else {stages.FIRST_LOGITS: runs.decode(rows[:first], 0)}
    rows, past, logits, answer = rows[first:], first, [], []
    for _ in range(DECODE_STEPS + 1):
        logits.append(runs.decode(rows, past))
        past += len(rows)
        answer.append(int(logits[-1].argmax()))
        rows = as_float32(table[[answer[-1]]])
        on_step()
    return answer, prefilled, outputs | {stages.LOGITS: np.concatenate(logits)}
