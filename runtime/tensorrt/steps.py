"""One call of the decoder with sizes that stay: its inputs in one block, all pieces, and the largest logits.

Inputs go to the GPU as one copy, and a piece hands its rows to the next by their address there. What comes back is
small: the largest logits and their tokens; all logits stay on the GPU until they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.stages import HIDDEN_STATES, INPUTS_EMBEDS, LOGITS, NEXT_HIDDEN_STATES, TOP_LOGITS, TOP_TOKENS

from ..embeddings import Embeddings
from .buffers import Buffers
from .calls import Calls, Sizes
from .cuda import Graph, Layout, Stream
from .engine import Context, Engine, Shape
from .image_embeds import DeviceEmbeddings

INPUTS, TOP = "inputs", "top_logits"
PINNED = (INPUTS, TOP, LOGITS)  # regions that have a block on the host, too


@dataclass(frozen=True)
class DecoderEngines:
    """The decoder's engines, one for each piece of its layers, and what all calls of them have in common.

    Attributes:
        engines: by name of the piece, in order.
        calls: sizes and inputs of their calls.
        width: hidden size, D.
        vocabulary: number of logits, V.
    """

    engines: Mapping[str, Engine]
    calls: Calls
    width: int
    vocabulary: int

    def regions(self) -> dict[str, int]:
        """Returns the bytes needed on the device, by region: inputs, rows between pieces, outputs, and kv caches."""
        largest = self.calls.largest
        rows = largest.inputs * self.width * self.dtype(INPUTS_EMBEDS).itemsize
        logits = self.vocabulary * np.dtype(np.float32).itemsize
        own = {INPUTS: self.layout(largest).size, "rows.0": rows, "rows.1": rows, LOGITS: logits}
        own[TOP] = self.top_logits.size
        return own | self.calls.regions()

    def input_shapes(self, sizes: Sizes) -> dict[str, Shape]:
        """Returns the shapes of a call's inputs that come from the host."""
        arrays = self.calls.inputs(1, 0, sizes)  # for their shapes
        embeds: dict[str, Shape] = {INPUTS_EMBEDS: (1, sizes.inputs, self.width)}
        return embeds | {name: array.shape for name, array in arrays.items()}

    def dtype(self, name: str) -> np.dtype:
        """Returns the dtype of an input, as the first piece that has it takes it."""
        return next(engine.dtype(name) for engine in self.engines.values() if name in engine.inputs)

    @property
    def top_logits(self) -> Layout:
        """Layout of the largest logits and their tokens, one behind the other."""
        layout = Layout()
        for name in (TOP_LOGITS, TOP_TOKENS):
            layout.add(name, self.last.size(name, self.last.shape(name)))
        return layout

    @property
    def last(self) -> Engine:
        """Engine of the last piece, which computes the logits."""
        return list(self.engines.values())[-1]

    def layout(self, sizes: Sizes) -> Layout:
        """Layout of a call's inputs, one behind the other."""
        layout = Layout()
        for name, shape in self.input_shapes(sizes).items():
            layout.add(name, int(np.prod(shape)) * self.dtype(name).itemsize)
        return layout


class Step:
    """A call of certain sizes.

    Args:
        decoder: that is called.
        sizes: of the call.
        contexts: one for each piece; other steps may share them, as long as `bind` is called before `run`.
        buffers: with the regions of `DecoderEngines.regions`, and `PINNED` on the host, too.

    Attributes:
        sizes: as above.
        graph: the call as a captured graph; None for one that is queued piece by piece.
    """

    def __init__(self, decoder: DecoderEngines, sizes: Sizes, contexts: Sequence[Context], buffers: Buffers):
        self.sizes = sizes
        self._decoder, self._contexts = decoder, contexts
        self._regions, self._pinned = buffers.regions, buffers.pinned
        self._layout, self._shapes = decoder.layout(sizes), decoder.input_shapes(sizes)
        self._views = {
            name: self._pinned[INPUTS].array(self._layout.offsets[name], shape, decoder.dtype(name))
            for name, shape in self._shapes.items()
        }
        self.graph: Graph | None = None
        self._on_device: list[tuple[int, DeviceEmbeddings]] = []

    def fill(self, rows: Embeddings, behind: int) -> None:
        """Writes the inputs; those of the call before must be on the GPU.

        Args:
            rows: (n, D) embeddings.
            behind: tokens of the kv cache that they follow.
        """
        calls, view = self._decoder.calls, self._views[INPUTS_EMBEDS][0]
        place = calls.place(len(rows), self.sizes)
        view[: place.start], view[place.stop :], self._on_device = 0, 0, []
        for before, block in rows.placed():
            at = place.start + before
            if isinstance(block, DeviceEmbeddings) and self.graph is None:  # which would copy what is here
                self._on_device.append((at, block))
            else:
                view[at : at + len(block)] = block
        for name, values in calls.inputs(len(rows), behind, self.sizes).items():
            self._views[name][...] = values

    def bind(self, stream: Stream) -> None:
        """Tells the contexts which profile, shapes and addresses they run with."""
        place = {name: self._regions[INPUTS] + offset for name, offset in self._layout.offsets.items()}
        place |= {name: self._regions[TOP] + offset for name, offset in self._decoder.top_logits.offsets.items()}
        row_shape = self._shapes[INPUTS_EMBEDS]
        pieces = list(zip(self._decoder.engines.items(), self._contexts, strict=True))
        for number, ((part, engine), context) in enumerate(pieces):
            shapes, addresses = self._decoder.calls.caches(part, self.sizes, self._regions)
            shapes, addresses = self._shapes | shapes | {HIDDEN_STATES: row_shape}, place | addresses
            # Two blocks in turn: what a piece reads is not what it writes.
            addresses |= {HIDDEN_STATES: self._regions[f"rows.{number % 2}"], LOGITS: self._regions[LOGITS]}
            addresses[NEXT_HIDDEN_STATES] = self._regions[f"rows.{(number + 1) % 2}"]
            context.bind(
                self.sizes.profile,
                {name: shapes[name] for name in engine.inputs},
                {name: addresses[name] for name in (*engine.inputs, *engine.outputs)},
                stream,
            )

    def send(self, stream: Stream) -> None:
        """Queues the copy of the inputs, and over them that of the embeddings which are on the GPU already."""
        stream.to_device(self._regions[INPUTS], self._pinned[INPUTS].address, self._layout.size)
        first = self._regions[INPUTS] + self._layout.offsets[INPUTS_EMBEDS]
        width = self._views[INPUTS_EMBEDS][0, 0].nbytes
        for at, block in self._on_device:
            size = len(block) * width
            stream.copy_rows(first + at * width, size, block.address, size, size, 1)

    def run(self, stream: Stream) -> None:
        """Queues the pieces."""
        for context in self._contexts:
            context.run(stream)

    def fetch(self, stream: Stream) -> None:
        """Queues the copy of the largest logits and their tokens to the host."""
        stream.to_host(self._pinned[TOP].address, self._regions[TOP], self._pinned[TOP].size)

    def queue(self, stream: Stream) -> None:
        """Queues all of the call: by one launch, when it was captured."""
        if self.graph is not None:
            self.graph.launch(stream)
            return
        self.send(stream)
        self.run(stream)
        self.fetch(stream)
