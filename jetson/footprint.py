"""What a prepared TensorRT bundle will take on a board, from its manifest: memory of builds and of running, disk.

The factors were measured with TensorRT-RTX 1.7.1 on an x86 CPU (docs/jetson.md has the table); builds with a Jetson's
TensorRT were not measured. On a board: `/usr/bin/time -v python engines/compile.py DIR` and `tegrastats` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.bundle import Bundle, BundleError
from mobilevlm.engines.stages import DECODER, engine_file, weights_file
from mobilevlm.engines.tensorrt.buckets import PROMPT_ROWS, SPARE_ROWS
from mobilevlm.engines.tensorrt.devices import SPARE_BYTES
from mobilevlm.engines.tensorrt.profiles import bundle_profiles
from mobilevlm.engines.tensorrt.record import engine_record, noted_ingredients, parts
from mobilevlm.engines.tensorrt.require import TENSORRT_TARGETS, find_tensorrt_target
from mobilevlm.runtime.tensorrt.image_embeds import PLACES

from .contiguous import head_request
from .roofline import cache_row_bytes

# A builder's own memory for a graph is at most this many times its weights, and SPARE_BYTES.
BUILD_PER_WEIGHT = 2.4
# An engine holds its weights once, and at most this much of kernels for each of its optimization profiles.
PROFILE_BYTES = 8_000_000
TIMING_CACHE_BYTES = 64_000_000  # not measured: room for what is a few MB elsewhere
FLOAT32 = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes that a bundle will take.

    Attributes:
        weights: of each graph, by part, in the order of building.
        engines: of each engine, on the disk and in memory.
        unbuilt: parts whose engine is missing or out of date.
        build: memory that building each part takes.
        head: largest piece that is asked for at once, by the last part of the decoder.
        cache: of keys and values, and the rows that are on their way into it.
        activations: what the largest call works in, and its inputs and outputs.
    """

    weights: Mapping[str, int]
    engines: Mapping[str, int]
    unbuilt: tuple[str, ...]
    build: Mapping[str, int]
    head: int
    cache: int
    activations: int

    @property
    def running(self) -> int:
        """Memory while it answers, TensorRT's and Python's own included."""
        return sum(self.engines.values()) + self.cache + self.activations + SPARE_BYTES

    @property
    def disk(self) -> int:
        """Room that the engines that are still to be built take."""
        return sum(self.engines[part] for part in self.unbuilt) + TIMING_CACHE_BYTES * bool(self.unbuilt)


def footprint(bundle: Bundle) -> Footprint:
    """Compute it.

    Args:
        bundle: opened, for a target on TensorRT.

    Raises:
        BundleError: it is for another target, or its graphs are those of another version.
    """
    manifest, config = bundle.manifest, bundle.config
    target = find_tensorrt_target(bundle)
    if target is None or target.has_portable_engines:
        known = ", ".join(one.name for one in TENSORRT_TARGETS.values() if not one.has_portable_engines)
        raise BundleError(
            f"{bundle.directory} is for target {manifest.target}; --bundle predicts for what TensorRT runs ({known})"
        )
    names = parts(bundle)
    weights = {part: manifest.files[weights_file(part)]["size"] for part in names}
    profiles = {part: max(len(bundle_profiles(bundle, part)), 1) for part in names}
    unbuilt = tuple(
        part
        for part in names
        if noted_ingredients(manifest.tensorrt, part) != engine_record(manifest, part)
        or not bundle.path(engine_file(part)).is_file()
    )
    form = manifest.forms[DECODER]
    return Footprint(
        weights,
        {part: size + profiles[part] * PROFILE_BYTES for part, size in weights.items()},
        unbuilt,
        {part: build_bytes(size) for part, size in weights.items()},
        head_request(config, form),
        (manifest.max_context + PROMPT_ROWS) * cache_row_bytes(config, form),
        _activations(config, manifest.max_context, manifest.num_image_tokens),
    )


def build_bytes(weights: float) -> int:
    """Memory that building an engine takes, for a graph with so many bytes of weights."""
    return int(BUILD_PER_WEIGHT * weights) + SPARE_BYTES


def pieces_that_fit(bundle: Bundle, limit: int) -> int | None:
    """The least number of pieces of the decoder of which each can be built in `limit` bytes; None where none can.

    Args:
        bundle: whose decoder has more weights than that now.
        limit: memory, in bytes.
    """
    config, manifest = bundle.config, bundle.manifest
    total = sum(manifest.files[weights_file(part)]["size"] for part in manifest.parts)
    head = config.vocab_size * config.hidden_size * manifest.forms[DECODER].head_bytes
    layers = config.num_hidden_layers
    for pieces in range(len(manifest.parts) + 1, layers + 1):
        most = -(-layers // pieces) * (total - head) / layers + head  # the last piece has the head, too
        if build_bytes(most) <= limit:
            return pieces
    return None


def context_that_fits(bundle: Bundle, found: Footprint, limit: int) -> int:
    """Computes the longest context with which a bundle runs, in tokens; 0 where none fits.

    Args:
        bundle: prepared for TensorRT.
        found: what it takes with its own context.
        limit: memory, in bytes.
    """
    row = cache_row_bytes(bundle.config, bundle.manifest.forms[DECODER])
    return max((limit - found.running + found.cache) // row - PROMPT_ROWS, 0)


def _activations(config: ModelConfig, context: int, image_tokens: int) -> int:
    """An upper figure, as if nothing was fused: float32 for what a layer works with, two tables of scores."""
    rows = PROMPT_ROWS + SPARE_ROWS
    decoder = rows * (4 * config.hidden_size + 3 * config.intermediate_size)
    decoder += 2 * config.num_attention_heads * rows * (context + rows)
    decoder += config.vocab_size
    if config.vision is None:
        return FLOAT32 * decoder
    patches = config.vision.grid**2 + 1
    vision = patches * (4 * config.vision.hidden_size + 3 * config.vision.intermediate_size)
    vision += 2 * config.vision.num_attention_heads * patches**2
    pictures = (PLACES + 1) * image_tokens * config.hidden_size + 3 * config.vision.image_size**2
    return FLOAT32 * (max(decoder, vision) + pictures)
