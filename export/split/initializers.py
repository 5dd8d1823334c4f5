"""Initializers of a graph that is being written: small ones inline, others streamed to the external file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from .tensor_data import append_external

INLINE_BYTES = 256


class Initializers:
    """Named values of one graph; no value stays in memory.

    Args:
        path: the external file, created here.
        on_bytes: called with the number of bytes after each value that is written to it.
    """

    def __init__(self, path: Path, on_bytes: Callable[[int], object]):
        self._file, self._location, self._on_bytes = path.open("wb"), path.name, on_bytes
        self._tensors: list[TensorProto] = []

    def __len__(self) -> int:
        return len(self._tensors)

    def add(self, name: str, value: np.ndarray) -> str:
        """Adds a value: inline when it is small, else in the external file.

        Args:
            name: its own.
            value: one without dimensions becomes (1,).

        Returns:
            The name.
        """
        value = np.ascontiguousarray(value)
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
        if value.nbytes < INLINE_BYTES:
            tensor.raw_data = value.tobytes()
        else:
            self._append(tensor, value)
        self._tensors.append(tensor)
        return name

    def add_scalar(self, name: str, value: np.generic) -> str:
        """Adds a number that has no dimensions.

        Args:
            name: its own.
            value: the number.

        Returns:
            The name.
        """
        self.add(name, np.asarray(value))
        del self._tensors[-1].dims[:]
        return name

    def add_int4(self, name: str, values: np.ndarray) -> str:
        """Adds int4 values, two to a byte, in the external file.

        Args:
            name: their own.
            values: int8 from -8 to 7, an even number of them.

        Returns:
            The name.
        """
        nibbles = values.reshape(-1, 2).astype(np.uint8) & 15
        tensor = TensorProto(name=name, data_type=TensorProto.INT4, dims=values.shape)
        self._append(tensor, nibbles[:, 0] | nibbles[:, 1] << 4)
        self._tensors.append(tensor)
        return name

    def _append(self, tensor: TensorProto, value: np.ndarray) -> None:
        append_external(self._file, self._location, tensor, value)
        self._on_bytes(value.nbytes)

    def flushed(self) -> list[TensorProto]:
        """Returns all initializers; what is external is in its file then."""
        self._file.flush()
        return self._tensors

    def close(self) -> None:
        """Closes the external file."""
        self._file.close()
