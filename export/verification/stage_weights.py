"""Checks the weights of all stages that a build wrote, and of its embedding table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobilevlm.checkpoint.checkpoint import Checkpoint
from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.embed_tokens import LARGEST, as_float32
from mobilevlm.model.model import expected_shapes

from ..split.tensor_data import to_numpy
from .differences import VerificationError
from .weight_check import WeightFault, check_weights, is_close, tables_of
from .written_weights import Written

MOST_FAULTS = 5  # that a message names
TABLE_ROWS = 4096  # compared at a time
EMBEDDING = "model.embed_tokens.weight"
# Of a vision tower, what is in tables of other names: the class token, positions, a bias of the patches.
IN_TABLES = ("class_embedding", "position_embedding.weight", "patch_embedding.bias")
LAST_NORM = "post_layernorm"


def check_stages(
    checkpoint: Checkpoint, written: Written, directory: Path, table: np.ndarray, cache_rows: int
) -> dict[str, dict[str, float]]:
    """Compares every weight of every stage with the checkpoint's.

    Args:
        checkpoint: the truth.
        written: what there is.
        directory: where it is.
        table: the stored embedding table.
        cache_rows: of the kv cache that graphs were written for.

    Returns:
        By stage and layer, the power of the weights' error over that of the weights.

    Raises:
        VerificationError: some are not the checkpoint's; names the first.
    """
    noise, faults = {}, _table_faults(checkpoint, table)
    for stage, source in written.sources.items():
        graphs = written.opened(stage, directory)
        tables = tables_of(checkpoint.config, source, cache_rows)
        found = check_weights(graphs, source, _expected(checkpoint, stage), tables)
        noise[stage] = found.noise
        faults += found.faults
    if faults:
        shown = "; ".join(map(str, faults[:MOST_FAULTS]))
        more = f" and {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
        raise VerificationError(
            f"the build wrote weights that are not the checkpoint's: {shown}{more}. This is a fault of the build or of "
            "the disk, not of the checkpoint: build again, and report it if it happens again"
        )
    return noise


def _expected(checkpoint: Checkpoint, stage: str) -> list[str]:
    """Names of the weights that a stage holds."""
    config = checkpoint.config
    names = []
    for name in expected_shapes(config):
        is_vision = name.startswith(("model.vision_tower.", "model.mm_projector."))
        if is_vision != (stage == stages.VISION) or name == EMBEDDING:
            continue
        if any(name.endswith(f"embeddings.{part}") for part in IN_TABLES) or _is_unused(name, config):
            continue
        names.append(name)
    return names


def _is_unused(name: str, config: ModelConfig) -> bool:
    """Whether a weight is of a layer behind the last that the projector reads, or of a norm that it does not."""
    if LAST_NORM in name:
        return config.vision is None or not config.vision.use_post_layernorm
    where = name.partition(".encoder.layers.")[2]
    return bool(where) and int(where.split(".")[0]) >= config.num_vision_layers


def _table_faults(checkpoint: Checkpoint, table: np.ndarray) -> list[WeightFault]:
    exact = checkpoint.tensors[EMBEDDING]
    for row in range(0, len(exact), TABLE_ROWS):
        part = slice(row, row + TABLE_ROWS)
        wanted, stored = to_numpy(exact[part]), table[part]
        if stored.dtype.names is None:
            good = is_close(stored, wanted)
        else:
            step = np.abs(wanted).max(1, keepdims=True) / LARGEST
            good = bool((np.abs(as_float32(stored) - wanted) <= 0.501 * step).all())
        if not good:
            return [WeightFault(stages.EMBED_TOKENS_FILE, EMBEDDING, f"differs in rows {row} to {row + TABLE_ROWS}")]
    return []
