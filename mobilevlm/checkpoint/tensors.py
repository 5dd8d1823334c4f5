"""A checkpoint's weights as a mapping from published name to tensor, read when asked for and never all at once.

The PyTorch model, the export to ONNX and its verification all read weights through this. Files are memory-mapped: a
`Tensors` holds no weights in memory, and the pages of what was read are given back.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..pages import Pages
from ..stand_ins import stand_in
from .checkpoint_error import CheckpointError
from .pickles import load_plain, tensors_in
from .safetensors_header import check_header
from .shard_index import read_index
from .wrapped_names import published_names

__all__ = ["CheckpointError", "Entry", "Tensors", "open_directory", "open_file", "random_tensors"]

# In the order in which they are looked for.
WEIGHT_NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Buffers that some transformers versions wrote into checkpoints and every model recomputes.
STALE_SUFFIXES = ("rotary_emb.inv_freq", "embeddings.position_ids")

# Bytes read from a file until its pages are given back: looking up where they are takes some 15 ms.
RELEASE_BYTES = 2**27
BYTE_DEVIATION = 73.9  # standard deviation of a random int8


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint: its shape, known without reading it, and the function that reads it."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


class Tensors(Mapping[str, torch.Tensor]):
    """Lazily read tensors: `tensors[name]` reads (maps) one, iteration gives the names."""

    def __init__(self, entries: Mapping[str, Entry]):
        self._entries = {name: entry for name, entry in entries.items() if not name.endswith(STALE_SUFFIXES)}

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._entries[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # Mapping's own would read the tensor

    def entry(self, name: str) -> Entry:
        """Shape and reader of a tensor."""
        return self._entries[name]

    def replaced(self, changes: Mapping[str, Entry]) -> Tensors:
        """Mapping in which `changes` replace or join these tensors."""
        return Tensors(self._entries | dict(changes))

    def renamed(self, rename: Callable[[str], str | None]) -> Tensors:
        """Mapping under new names; a tensor renamed to None is left out."""
        pairs = ((rename(name), entry) for name, entry in self._entries.items())
        return Tensors({name: entry for name, entry in pairs if name is not None})

    def converted(self, dtype: torch.dtype) -> Tensors:
        """Mapping whose tensors are rounded to `dtype` as they are read."""

        def rounded(entry: Entry) -> Entry:
            return Entry(entry.shape, lambda: entry.read().to(dtype))

        return Tensors({name: rounded(entry) for name, entry in self._entries.items()})


def open_file(path: Path) -> Tensors:
    """Map one `.safetensors` or `.bin` file.

    Raises:
        CheckpointError: the file is missing, truncated or not of its kind.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: copy or download the checkpoint again")
    try:
        if sentence := stand_in(path):
            raise CheckpointError(sentence)
        tensors = _open_safetensors(path) if path.suffix == ".safetensors" else _open_bin(path)
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} cannot be read as weights ({reason}): copy or download it again") from None
    if empty := [name for name in tensors if 0 in tensors.entry(name).shape]:
        raise CheckpointError(
            f"{path} holds {len(empty)} empty tensors, {empty[0]} is {tensors.entry(empty[0]).shape}: DeepSpeed's "
            "ZeRO-3 had them divided over its processes when they were saved. Gather them first: "
            "stage3_gather_16bit_weights_on_model_save in its configuration, zero_to_fp32.py beside its checkpoints, "
            "or, for a LoRA, zero.GatheredParameters around the saving"
        )
    return tensors


class _Mapped:
    """A mapped file that gives its pages back as its tensors are read: otherwise they stay while the file is open.

    A tensor that is still held faults its pages in again, mostly from the system's file cache.
    """

    def __init__(self, path: Path):
        self._path, self._read = path.resolve(), 0  # as the system names what is mapped, also behind links

    def entry(self, shape: Sequence[int], read: Callable[[], torch.Tensor]) -> Entry:
        """Tensor of this file, whose reading counts towards giving pages back."""

        def counted() -> torch.Tensor:
            if self._read > RELEASE_BYTES:
                Pages(self._path).release()
                self._read = 0
            tensor = read()
            self._read += tensor.nbytes
            return tensor

        return Entry(tuple(shape), counted)


def _open_safetensors(path: Path) -> Tensors:
    """Tensors of a `.safetensors` file."""
    check_header(path)
    file, mapped = safe_open(path, framework="pt", device="cpu"), _Mapped(path)

    def entry(name: str) -> Entry:
        return mapped.entry(file.get_slice(name).get_shape(), lambda: file.get_tensor(name))

    return Tensors({name: entry(name) for name in file.keys()})


def _open_bin(path: Path) -> Tensors:
    """Tensors of a file that `torch.save` wrote."""
    state = tensors_in(load_plain(path), path)
    mapped = _Mapped(path)

    def entry(tensor: torch.Tensor) -> Entry:
        return mapped.entry(tensor.shape, lambda: tensor)

    return Tensors({name: entry(tensor) for name, tensor in state.items()})


def open_directory(directory: Path) -> Tensors:
    """Map a checkpoint's weights under their published names: safetensors before `.bin`, single or sharded.

    Raises:
        CheckpointError: there are none, a shard is missing, or a file cannot be read.
        ConfigError: an index cannot be read.
    """
    found = next((directory / name for name in WEIGHT_NAMES if (directory / name).is_file()), None)
    if found is None:
        raise CheckpointError(f"{directory} holds no weights: {_beside(directory)}")
    tensors = _open_sharded(found) if found.suffix == ".json" else open_file(found)
    names = published_names(list(tensors), str(found))
    return tensors.renamed(names.__getitem__)


# What lies in a directory that is taken for a checkpoint, and what to give instead.
_INSTEAD = (
    ("mm_projector.bin", "a projector alone ({0}): give it to finetune.py as --projector, with its language model"),
    ("adapter_model.*", "a LoRA ({0}) without its adapter_config.json: copy that there too"),
    ("pytorch_model_fsdp*", "FSDP's shards ({0}): merge them with `accelerate merge-weights`"),
    ("zero_to_fp32.py", "DeepSpeed's shards: put them together with the {0} that lies beside them"),
    ("checkpoint-*", "a Trainer's run, give one of its checkpoints ({0})"),
    ("*.gguf", "a model of llama.cpp ({0}), which is not read: download the original's files"),
    ("*.safetensors", "{0}, which is none of the names that are looked for"),
    ("*.bin", "{0}, which is none of the names that are looked for"),
)


def _beside(directory: Path) -> str:
    """What is needed, and what is there instead."""
    needed = f"one of {', '.join(WEIGHT_NAMES)} is needed"
    for pattern, sentence in _INSTEAD:
        if found := sorted(path.name for path in directory.glob(pattern)):
            return f"{needed}; this is {sentence.format(found[-1])}"
    return needed


def _open_sharded(index: Path) -> Tensors:
    """Tensors of all shards that an index lists."""
    shards = read_index(index)
    opened = {path: open_file(path) for path in dict.fromkeys(shards.values())}
    absent = [name for name, path in shards.items() if name not in opened[path] and not name.endswith(STALE_SUFFIXES)]
    if absent:
        raise CheckpointError(f"{index} lists tensors that its shards lack: {', '.join(sorted(absent))}")
    return Tensors({name: opened[path].entry(name) for name, path in shards.items() if name in opened[path]})


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> Tensors:
    """Random float32 weights that keep activations near unit variance, drawn from seed and name when they are read.

    Matrices and convolutions are uniform with variance 1 / fan-in, norm weights one, biases about 0.02, so that a
    difference between two implementations shows.

    Args:
        shapes: of the tensors, by their published names.
        seed: another seed gives other weights.
    """

    def draw(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1 and "norm" in name and name.endswith("weight"):
            return torch.ones(shape)
        # One random byte a weight: ten times quicker than normal deviates, minutes of a 7B build.
        generator = np.random.Generator(np.random.SFC64(zlib.crc32(f"{seed}.{name}".encode())))
        values = np.frombuffer(generator.bytes(math.prod(shape)), np.int8).reshape(shape)
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 2500
        deviation = 1.0 if "embed_tokens" in name else fan_in**-0.5
        # Bytes reach further below zero than above: a quantiser would cut the same end off every block of weights.
        return torch.from_numpy(values.astype(np.float32)).add_(0.5).mul_(deviation / BYTE_DEVIATION)

    return Tensors({name: Entry(shape, partial(draw, name, shape)) for name, shape in shapes.items()})
