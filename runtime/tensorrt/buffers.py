"""Memory of an opened TensorRT bundle: one block on the device, and blocks that host and device both reach."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from mobilevlm.engines.tensorrt.cuda_device import CudaError

from .cuda import DeviceMemory, Layout, PinnedMemory, Stream


class Buffers:
    """Memory by region, taken at once when a bundle is opened.

    Args:
        sizes: bytes of each region on the device, by name.
        pinned: names of those that have a block of the same size on the host.
        stream: whose work fills the device's memory with zeros.

    Attributes:
        regions: addresses on the device, by name.
        pinned: blocks on the host, by name.

    Raises:
        CudaError: memory is short.
    """

    def __init__(self, sizes: Mapping[str, int], pinned: Sequence[str], stream: Stream):
        layout = Layout()
        for name, size in sizes.items():
            layout.add(name, size)
        self.pinned: dict[str, PinnedMemory] = {}
        # The large one first: on a Jetson free memory falls into pieces.
        self._block = DeviceMemory(layout.size, stream)
        self.regions = {name: self._block.address + offset for name, offset in layout.offsets.items()}
        try:
            for name in pinned:
                self.pinned[name] = PinnedMemory(sizes[name])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Frees the memory; nothing may be using it any more."""
        pinned, self.pinned = self.pinned, {}
        blocks: list[PinnedMemory | DeviceMemory] = [*reversed(pinned.values()), self._block]
        for block in blocks:
            with contextlib.suppress(CudaError):  # after a fault of the GPU nothing can be freed, and need not be
                block.close()
