"""One call of the decoder with sizes that stay: its inputs in one block, all pieces, and the likeliest tokens.

Inputs go to the GPU as one copy, and a piece hands its rows to the next by their address there. What comes back is
small: the largest logits and their tokens; all of them stay on the GPU until somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mobilevlm.engines.stages import HIDDEN_STATES, INPUTS_EMBEDS, LOGITS, NEXT_HIDDEN_STATES, TOP_LOGITS, TOP_TOKENS

from ..embeddings import Embeddings
from .calls import Calls, Sizes
from .cuda import Graph, Layout, PinnedMemory, Stream
from .engine import Context, Engine, Shape
from .pictures import DeviceRows

INPUTS, TOP = "inputs", "top_logits"


@dataclass(frozen=True)
class Decoder:
    """What all calls have in common.

    Attributes:
        engines: of the pieces, in order.
        calls: of these.
        width: of a row.
        vocabulary: how many logits there are.
    """

    engines: Mapping[str, Engine]
    calls: Calls
    width: int
    vocabulary: int

    def regions(self) -> dict[str, int]:
        """Bytes that it needs on the device: for inputs, rows between pieces, what comes out, and caches."""
        largest = self.calls.largest
        rows = largest.inputs * self.width * self.dtype(INPUTS_EMBEDS).itemsize
        logits = self.vocabulary * np.dtype(np.float32).itemsize
        own = {INPUTS: self.layout(largest).size, "rows.0": rows, "rows.1": rows, LOGITS: logits}
        own[TOP] = self.top_logits.size
        return own | self.calls.regions()

    def input_shapes(self, sizes: Sizes) -> dict[str, Shape]:
        """Of the inputs that come from the host; the values of one are not looked at."""
        arrays = self.calls.inputs(1, 0, sizes)
        return {INPUTS_EMBEDS: (1, sizes.inputs, self.width)} | {name: array.shape for name, array in arrays.items()}

    def dtype(self, name: str) -> np.dtype:
        """Of an input, as the first piece that has it takes it."""
        return next(engine.dtype(name) for engine in self.engines.values() if name in engine.inputs)

    @property
    def top_logits(self) -> Layout:
        """Of the largest logits and their tokens, one behind the other."""
        engine, layout = list(self.engines.values())[-1], Layout()
        for name in (TOP_LOGITS, TOP_TOKENS):
            layout.add(name, engine.size(name, engine.shape(name)))
        return layout

    def layout(self, sizes: Sizes) -> Layout:
        """Of a call's inputs, one behind the other."""
        layout = Layout()
        for name, shape in self.input_shapes(sizes).items():
            layout.add(name, int(np.prod(shape)) * self.dtype(name).itemsize)
        return layout


class Step:
    """A call of certain sizes.

    Args:
        decoder: that is called.
        sizes: of the call.
        contexts: of its pieces; others' too, as long as `bind` is called before `queue`.
        regions: addresses on the device: of the inputs' block, of rows between pieces, of what comes out, and caches.
        pinned: where inputs are written, and the likeliest tokens are read.
    """

    def __init__(
        self,
        decoder: Decoder,
        sizes: Sizes,
        contexts: Sequence[Context],
        regions: Mapping[str, int],
        pinned: Mapping[str, PinnedMemory],
    ):
        self.sizes = sizes
        self._decoder, self._contexts, self._regions, self._pinned = decoder, contexts, regions, pinned
        self._layout, self._shapes = decoder.layout(sizes), decoder.input_shapes(sizes)
        self._views = {
            name: pinned[INPUTS].array(self._layout.offsets[name], shape, decoder.dtype(name))
            for name, shape in self._shapes.items()
        }
        self.graph: Graph | None = None
        self._on_device: list[tuple[int, DeviceRows]] = []

    def fill(self, rows: Embeddings, behind: int) -> None:
        """Write the inputs of (n, D) rows behind so many of the cache; the last call's must be on the GPU."""
        calls, view = self._decoder.calls, self._views[INPUTS_EMBEDS][0]
        place = calls.place(len(rows), self.sizes)
        view[: place.start], view[place.stop :], self._on_device = 0, 0, []
        for before, block in rows.placed():
            at = place.start + before
            if isinstance(block, DeviceRows) and self.graph is None:  # which would copy what is here
                self._on_device.append((at, block))
            else:
                view[at : at + len(block)] = block
        for name, values in calls.inputs(len(rows), behind, self.sizes).items():
            self._views[name][...] = values

    def bind(self, stream: Stream) -> None:
        """Tell the contexts what they run on."""
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
        """Queue the copy of the inputs, and over them of the rows that are on the GPU already."""
        stream.to_device(self._regions[INPUTS], self._pinned[INPUTS].address, self._layout.size)
        first = self._regions[INPUTS] + self._layout.offsets[INPUTS_EMBEDS]
        width = self._views[INPUTS_EMBEDS][0, 0].nbytes
        for at, block in self._on_device:
            size = len(block) * width
            stream.copy_rows(first + at * width, size, block.address, size, size, 1)

    def run(self, stream: Stream) -> None:
        """Queue the pieces."""
        for context in self._contexts:
            context.run(stream)

    def fetch(self, stream: Stream) -> None:
        """Queue the copy of the likeliest tokens."""
        stream.to_host(self._pinned[TOP].address, self._regions[TOP], self._pinned[TOP].size)

    def queue(self, stream: Stream) -> None:
        """Queue it all: by one launch, when it was captured."""
        if self.graph is not None:
            self.graph.launch(stream)
            return
        self.send(stream)
        self.run(stream)
        self.fetch(stream)
