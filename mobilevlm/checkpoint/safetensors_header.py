"""Checks the header of a `.safetensors` file before the library maps it: sizes, types and places of its tensors."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any, TypeGuard

from .checkpoint_error import CheckpointError

# Bytes of a value. A header may name others, which no version of this project reads.
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
ITEM_BYTES |= {"U16": 2, "U32": 4, "U64": 8, "F8_E4M3": 1, "F8_E5M2": 1}
LARGEST_HEADER = 2**23  # 60,000 tensors; a 7B model's has 60 kB
MOST_DIMENSIONS = 8
LENGTH_BYTES = 8


def check_header(path: Path) -> None:
    """Compare a file's header with the file: whatever it says has to be there, once and in order.

    Raises:
        CheckpointError: the message names file and tensor.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if size <= LENGTH_BYTES or length > size - LENGTH_BYTES:
            raise _broken(path, f"its header says {length:,} bytes, the file has {size:,}")
        if length > LARGEST_HEADER:
            raise _broken(path, f"its header has {length:,} bytes, at most {LARGEST_HEADER:,} are read")
        text = file.read(length)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    spans = sorted(_span(path, name, entry) for name, entry in header.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise _broken(path, f"{name} begins at byte {start}, where {end} is due")
        end = stop
    if end != size - LENGTH_BYTES - length:
        raise _broken(path, f"its tensors need {end:,} bytes, {size - LENGTH_BYTES - length:,} are there")


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    """Where a tensor's bytes lie, from start to stop, and its name."""
    if not isinstance(entry, dict):
        raise _broken(path, f"{name} is described by {entry!r}")
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise CheckpointError(
            f"{path}: {name} has the type {str(dtype)[:40]!r}; {', '.join(ITEM_BYTES)} are read. Save it in float16, "
            "or use a newer version of this project"
        )
    if not _sizes(shape) or len(shape) > MOST_DIMENSIONS or not _sizes(span) or len(span) != 2:
        raise _broken(path, f"{name} has shape {str(shape)[:80]} at {str(span)[:80]}")
    needed, there = prod(shape) * ITEM_BYTES[dtype], span[1] - span[0]
    if needed != there:
        raise _broken(path, f"{name} {tuple(shape)} in {dtype} needs {needed:,} bytes, its place has {there:,}")
    return span[0], span[1], name


def _sizes(values: Any) -> TypeGuard[list[int]]:
    """Whether this is a list of integers that sizes or places can be."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def _broken(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} cannot be read as weights ({reason}): copy or download it again")
