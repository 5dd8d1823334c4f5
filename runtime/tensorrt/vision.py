"""The vision stage on a GPU."""

from __future__ import annotations

import numpy as np

from mobilevlm.engines.stages import IMAGE_EMBEDS, PIXEL_VALUES
from mobilevlm.errors import UserError

from .buffers import Buffers
from .cuda import Stream, settled
from .engine import Context, Engine
from .image_embeds import PLACES, DeviceEmbeddings, DeviceImages

IMAGES = "images"  # region of the embeddings that stay on the device
TENSORS = (PIXEL_VALUES, IMAGE_EMBEDS)


def vision_regions(engine: Engine) -> dict[str, int]:
    """Returns the bytes that the stage needs on the device, by region; those of `TENSORS` are needed pinned, too."""
    sizes = {name: engine.size(name, engine.shape(name)) for name in TENSORS}
    return sizes | {IMAGES: PLACES * sizes[IMAGE_EMBEDS]}


class Vision:
    """The vision stage's engine, ready to run.

    Args:
        engine: of the stage.
        context: of the engine.
        buffers: with the regions of `vision_regions`.
        stream: that everything is queued to.
        decoder_dtype: in which the decoder takes embeddings.
    """

    def __init__(self, engine: Engine, context: Context, buffers: Buffers, stream: Stream, decoder_dtype: np.dtype):
        self._context: Context | None = context
        self._buffers, self._stream = buffers, stream
        self._pixel_shape = engine.shape(PIXEL_VALUES)
        _, self._count, self._width = engine.shape(IMAGE_EMBEDS)
        self._dtype = engine.dtype(IMAGE_EMBEDS)
        # The decoder takes them as they are, or they are cast on the host.
        self._stays = self._dtype == decoder_dtype
        row_bytes = self._width * self._dtype.itemsize
        self._images = DeviceImages(buffers.regions[IMAGES], self._count, row_bytes, self._to_host)
        context.bind(0, {}, {name: buffers.regions[name] for name in TENSORS}, stream)

    def encode(self, pixel_values: np.ndarray) -> np.ndarray | DeviceEmbeddings:
        """Runs the stage: (1, 3, H, H) float32 to (N, D), which stay on the GPU where there is room."""
        context, stream, regions = self._require_open(), self._stream, self._buffers.regions
        source, size = self._buffers.pinned[PIXEL_VALUES], self._buffers.pinned[IMAGE_EMBEDS].size
        with settled(stream):
            source.array(0, self._pixel_shape, np.float32)[...] = pixel_values
            stream.to_device(regions[PIXEL_VALUES], source.address, source.size)
            context.run(stream)
            if self._stays and (embeds := self._images.take()) is not None:
                stream.copy_rows(embeds.address, size, regions[IMAGE_EMBEDS], size, size, 1)
                stream.synchronize()
                return embeds
        return self._to_host(regions[IMAGE_EMBEDS], self._count)

    def close(self) -> None:
        """Gives the engine up: embeddings that are still referred to do not keep it."""
        self._context = None

    def _to_host(self, address: int, count: int) -> np.ndarray:
        """Copies embeddings from the GPU: (count, D) float32."""
        self._require_open()
        pinned = self._buffers.pinned[IMAGE_EMBEDS]
        with settled(self._stream):
            self._stream.to_host(pinned.address, address, count * self._width * self._dtype.itemsize)
            self._stream.synchronize()
        return pinned.array(0, (count, self._width), self._dtype).astype(np.float32)

    def _require_open(self) -> Context:
        if self._context is None:
            raise UserError("the bundle of this image was closed: open it again")
        return self._context
