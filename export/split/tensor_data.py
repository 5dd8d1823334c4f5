"""Values of tensors: a checkpoint's as numpy arrays, and arrays in the external file of a graph."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import torch
from onnx import TensorProto

from mobilevlm.checkpoint.tensors import CheckpointError

# Offsets that every platform can map: the allocation granularity of Windows, a multiple of all page sizes.
MAP_ALIGNMENT = 65536


def append_external(file: BinaryIO, location: str, tensor: TensorProto, value: np.ndarray) -> int:
    """Appends a contiguous array to a file of external data, and records in its initializer where it lies.

    Args:
        file: the external file, opened for writing.
        location: its name, as the initializer refers to it.
        tensor: the initializer, whose inline data is dropped.
        value: the array.

    Returns:
        The array's offset in the file, in bytes.
    """
    alignment = MAP_ALIGNMENT if value.nbytes >= MAP_ALIGNMENT else 64
    file.write(b"\0" * (-file.tell() % alignment))
    offset = file.tell()
    file.write(value.data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, entry in {"location": location, "offset": offset, "length": value.nbytes}.items():
        tensor.external_data.add(key=key, value=str(entry))
    return offset


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor as a float32 array, a view where it can be one (numpy has no bfloat16).

    Raises:
        CheckpointError: the tensor holds something other than floating-point numbers.
    """
    if not tensor.is_floating_point():
        raise CheckpointError(f"the checkpoint holds weights of type {tensor.dtype}; floating-point ones are needed")
    return tensor.detach().float().numpy()
