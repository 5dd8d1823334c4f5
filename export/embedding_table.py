"""Writes the embedding table, from which a runtime takes a token's row: it is no graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mobilevlm.engines.embed_tokens import as_int8, int8_row
from mobilevlm.errors import UserError

from .split.tensor_data import to_numpy

TABLE_ROWS = 4096  # converted at a time


def write_table(weight: torch.Tensor, path: Path, dtype: type[np.generic], on_bytes: Callable[[int], object]) -> None:
    """Writes the table as an .npy file; int8 rows with a scale each (`engines/embed_tokens.py`).

    Args:
        weight: (V, D), the checkpoint's.
        path: the file.
        dtype: of the stored values.
        on_bytes: called with the number of bytes after every `TABLE_ROWS` rows.

    Raises:
        UserError: a value has no room in `dtype`, or is no number.
    """
    # Written, not mapped: a full disk is then an error instead of a killed process.
    is_int8 = dtype == np.int8
    stored = int8_row(weight.shape[1]) if is_int8 else np.dtype(dtype)
    largest = np.finfo(dtype if issubclass(dtype, np.floating) else np.float32).max
    header = {"descr": np.lib.format.dtype_to_descr(stored), "fortran_order": False}
    with path.open("wb") as file:
        shape = (len(weight),) if is_int8 else tuple(weight.shape)
        np.lib.format.write_array_header_1_0(file, header | {"shape": shape})
        for row in range(0, len(weight), TABLE_ROWS):
            exact = to_numpy(weight[row : row + TABLE_ROWS])
            if not np.abs(exact).max() <= largest:  # also when it is no number
                raise UserError(
                    f"model.embed_tokens.weight holds {np.abs(exact).max():g} in rows {row} to {row + len(exact) - 1}, "
                    f"{np.dtype(dtype).name} ends at {largest:g}: the checkpoint is damaged, or needs "
                    "--precision decoder=fp32"
                )
            rows = as_int8(exact) if is_int8 else exact.astype(dtype)
            file.write(np.ascontiguousarray(rows).data)
            on_bytes(rows.nbytes)
