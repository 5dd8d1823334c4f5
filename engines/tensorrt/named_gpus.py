"""GPUs by compute capability: TensorRT-RTX builds engines for them on any machine.

https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from mobilevlm.errors import UserError

from .library import RTX


class NamedGpus:
    """GPUs of given compute capabilities.

    Args:
        capabilities: such as SM75; none for every GPU from Ampere (SM80) on, also those to come.
    """

    library = RTX

    def __init__(self, capabilities: Sequence[str]):
        self._capabilities = capabilities

    def configure(self, trt: ModuleType, config: Any) -> None:
        """Sets their compute capabilities.

        Args:
            trt: TensorRT-RTX's module.
            config: its `IBuilderConfig`.

        Raises:
            UserError: TensorRT-RTX does not know one.
        """
        known = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
        if unknown := [name for name in self._capabilities if name not in known]:
            raise UserError(
                f"TensorRT-RTX {trt.__version__} does not know {unknown[0]}; it knows {', '.join(sorted(known))}"
            )
        if self._capabilities:
            config.num_compute_capabilities = len(self._capabilities)
        for index, name in enumerate(self._capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)

    def built(self, config: Any) -> None:
        """Does nothing: no kernel was measured."""
