"""Everything that is dropped when a TensorRT runner is closed: engines, contexts, memory, captured calls."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from mobilevlm.engines.stages import INPUTS_EMBEDS
from mobilevlm.engines.tensorrt.cuda_device import CudaError

from .buffers import Buffers
from .cache_rows import CacheRows
from .calls import Sizes
from .cuda import Stream
from .engine import Context
from .engines import Engines
from .steps import PINNED, Step
from .vision import TENSORS, Vision, vision_regions

SCRATCH = "scratch"  # region that contexts work in


@dataclass(frozen=True)
class Opened:
    """An opened bundle. The contexts of prompts are shared by their calls, a token's are not.

    Attributes:
        engines: of all stages.
        buffers: memory of all stages.
        prompt_contexts: one for each piece of the decoder.
        vision: the vision stage; None for a text-only bundle.
        cache_rows: copies rows of the kv cache from and to the host.
        tokens: calls for one token, by their sizes.
        prompts: calls for several tokens that were made so far, by their sizes.
    """

    engines: Engines
    buffers: Buffers
    prompt_contexts: list[Context]
    vision: Vision | None
    cache_rows: CacheRows
    tokens: dict[Sizes, Step] = field(default_factory=dict)
    prompts: dict[Sizes, Step] = field(default_factory=dict)

    def finish(self, stream: Stream) -> None:
        """Waits for what is queued, keeps compiled kernels and closes graphs; nothing can be run afterwards."""
        with contextlib.suppress(CudaError):  # after a fault of the GPU
            stream.synchronize()
            self.engines.keep_kernels()  # those of prompts, too
        for step in self.tokens.values():
            with contextlib.suppress(CudaError):
                if step.graph is not None:
                    step.graph.close()
        if self.vision is not None:
            self.vision.close()
        with contextlib.suppress(CudaError):
            self.cache_rows.close()


def open_stages(engines: Engines, stream: Stream) -> Opened:
    """Takes all memory, and makes the contexts for several tokens and for images.

    Args:
        engines: of all stages.
        stream: that everything is queued to.

    Raises:
        UserError: memory is short.
    """
    sizes, pinned = engines.decoder.regions() | {SCRATCH: engines.scratch_bytes}, list(PINNED)
    if engines.vision:
        sizes |= vision_regions(engines.vision)
        pinned += TENSORS
    buffers = Buffers(sizes, pinned, stream)
    try:
        contexts, vision = make_contexts(engines, buffers), None
        if engines.vision:
            context = engines.vision.context(buffers.regions[SCRATCH], engines.scratch_bytes)
            vision = Vision(engines.vision, context, buffers, stream, engines.decoder.dtype(INPUTS_EMBEDS))
    except BaseException:
        buffers.close()
        raise
    return Opened(engines, buffers, contexts, vision, CacheRows(engines.decoder.calls, buffers.regions, stream))


def make_contexts(engines: Engines, buffers: Buffers) -> list[Context]:
    """Makes one context for each piece of the decoder; all share the memory they work in, as one runs at a time.

    Args:
        engines: of all stages.
        buffers: with the region `SCRATCH`.
    """
    scratch, size = buffers.regions[SCRATCH], engines.scratch_bytes
    return [engine.context(scratch, size) for engine in engines.decoder.engines.values()]
