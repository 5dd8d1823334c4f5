"""Runs a variant's graphs as Hugging Face's libraries do, to verify them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines import stages
from mobilevlm.engines.embed_tokens import as_float32
from mobilevlm.override import override

from ..lowerings.hf import POSITION_IDS
from ..verification.differences import VerificationError
from ..verification.onnx_session import by_name, open_session
from ..verification.stages import Peak, Stages
from .names import DECODER_MODEL, EMBED_TOKENS, IMAGE_FEATURES, INPUT_IDS, VISION_ENCODER, Variant, onnx_path

ROWS = 4096  # of the embedding table, looked up together


class HfStages(Stages):
    """Runs the graphs of one variant.

    Args:
        directory: holds them.
        config: the model.
        variant: their names.
        packs: whether the decoder's kernels read packed weights alone.
    """

    def __init__(self, directory: Path, config: ModelConfig, variant: Variant, packs: bool):
        self._directory, self._variant, self._packs = directory, variant, packs
        self._decoder = by_name(open_session(onnx_path(directory, variant.part(DECODER_MODEL)), packs))
        empty = np.zeros((1, config.num_key_value_heads, 0, config.head_dim), np.float32)
        layers = range(config.num_hidden_layers)
        self._past = {(layer, part): empty for layer in layers for part in stages.CACHE_PARTS}

    @override
    def encode_image(self, pixel_values: np.ndarray) -> np.ndarray:
        """See `Stages`."""
        path = onnx_path(self._directory, self._variant.part(VISION_ENCODER))
        run = by_name(open_session(path, self._packs))
        return run({stages.PIXEL_VALUES: pixel_values})[IMAGE_FEATURES]

    @override
    def prefill(self, rows: np.ndarray) -> np.ndarray | None:
        """See `Stages`: there is none."""
        return None

    @override
    def decode(self, rows: np.ndarray, past: int) -> np.ndarray:
        """See `Stages`: the past goes in, and comes out longer."""
        total = past + len(rows)
        feed = {
            stages.INPUTS_EMBEDS: rows[None],
            stages.ATTENTION_MASK: np.ones((1, total), np.int64),
            POSITION_IDS: np.arange(past, total)[None],
        }
        found = self._decoder(feed | {stages.past(*key): value for key, value in self._past.items()})
        self._past = {key: found[stages.present(*key)] for key in self._past}
        return found[stages.LOGITS][:, -1]

    @override
    def caches(self, rows: int) -> dict[tuple[int, str], np.ndarray]:
        """See `Stages`."""
        return {key: value[:, :, :rows] for key, value in self._past.items()}

    @override
    def unrounded(self, pixel_values: np.ndarray | None, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
        """See `Stages`: nothing is rounded by operators of its own."""
        return {}

    @override
    def peaks(self) -> list[Peak]:
        """See `Stages`: arithmetic is float32."""
        return []


def check_table(directory: Path, variant: Variant, table: np.ndarray) -> None:
    """Looks every token up in a variant's embedding graph.

    Args:
        directory: holds the graphs.
        variant: their names.
        table: what is stored, V rows (`engines/embed_tokens.py`).

    Raises:
        VerificationError: the graph gives another row.
    """
    part = variant.part(EMBED_TOKENS)
    run = by_name(open_session(onnx_path(directory, part)))
    for start in range(0, len(table), ROWS):
        ids = np.arange(start, min(start + ROWS, len(table)))
        found = run({INPUT_IDS: ids[None]})[stages.INPUTS_EMBEDS][0]
        if not np.array_equal(found, as_float32(table[ids])):
            raise VerificationError(f"graph {part}: rows {start} to {ids[-1]} differ from the table's: build again")
