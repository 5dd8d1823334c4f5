"""NVIDIA's own builder as the module `tensorrt`: TensorRT-RTX, which builds for a GPU that is not there.

Its Python names are those of TensorRT; what it does not share is said in `mobilevlm.engines.tensorrt.rtx`. Engines
cannot be loaded, timing caches hold nothing.
"""

from __future__ import annotations

import types
from typing import Any

from mobilevlm.engines.tensorrt.library import RTX, import_tensorrt

from .settings import Settings


def tensorrt(settings: Settings, driver: Any) -> types.ModuleType:
    """The module, of a TensorRT's version, for the compute capability of the pretended GPU."""
    rtx = import_tensorrt(RTX)
    capability = getattr(rtx.ComputeCapability, "SM{}{}".format(*settings.capability))

    class Builder(rtx.Builder):
        """Names the GPU, which it would ask for otherwise."""

        def create_builder_config(self) -> Any:
            config = super().create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(capability, 0)
            return config

    self = types.ModuleType("tensorrt")
    vars(self).update({name: value for name, value in vars(rtx).items() if not name.startswith("_")})
    self.__version__, self.Builder, self._driver = settings.version, Builder, driver
    return self
