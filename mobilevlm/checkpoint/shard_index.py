"""Reads the index of a sharded checkpoint: which file, in the index's own directory, holds which tensor."""

from __future__ import annotations

from os.path import realpath
from pathlib import Path

from ..json_files import read_json
from .checkpoint_error import CheckpointError
from .path_names import can_be_path


def read_index(index: Path) -> dict[str, Path]:
    """Path of the shard that holds each tensor.

    Args:
        index: a `*.index.json`.

    Raises:
        CheckpointError: it is no index, or names a file outside its directory or one that is missing.
        ConfigError: it is no JSON.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} is no shard index (it has no weight_map): copy or download it again")
    odd = next((item for item in weight_map.items() if not isinstance(item[1], str) or not item[1]), None)
    if odd:
        raise CheckpointError(f"{index} is no shard index (weight_map has {odd[0]!r}: {odd[1]!r}): download it again")
    shards = {name: index.parent / name for name in sorted(set(weight_map.values()))}
    for name, path in shards.items():
        _check_inside(index, name, path)
    missing = [name for name, path in shards.items() if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {', '.join(missing)}, which {index.name} lists: copy them there too"
        )
    return {tensor: shards[name] for tensor, name in weight_map.items()}


def _check_inside(index: Path, name: str, path: Path) -> None:
    """Refuse a shard that lies elsewhere, by its name or as a link."""
    if Path(name).name != name or name == ".." or "\\" in name or not can_be_path(name):
        raise CheckpointError(f"{index} lists {name[:80]!r}, which is no file name: shards lie beside their index")
    directory, found = Path(realpath(index.parent)), Path(realpath(path))  # of a loop of links, too
    # The hub's cache keeps files by their hash, and links to them from snapshots/REVISION.
    blobs = directory.parents[1] / "blobs" if directory.parent.name == "snapshots" else directory
    if not found.is_relative_to(directory) and not found.is_relative_to(blobs):
        raise CheckpointError(f"{path} is a link to {found}, outside its directory: copy the file itself there")
