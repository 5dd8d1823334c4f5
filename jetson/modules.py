"""The Orin modules: a row each, from which limits are computed and boards recognised.

Multiprocessors, clocks and bus widths: NVIDIA's data sheets of the AGX Orin, Orin NX and Orin Nano series, and for
"Super" its JetPack 6.2 announcement. A test computes the published TOPS and GB/s from them again. Numbers of modules as
they stand in the device tree: https://github.com/rbonghi/jetson_stats (jtop/core/jetson_variables.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mobilevlm.engines.stage_form import FP16, FP32, INT8

# Operations (a multiplication and its addition are two) of one multiprocessor in one cycle, on dense matrices: the 128
# CUDA cores in fp32, the four tensor cores otherwise.
OPERATIONS_PER_CYCLE = {FP32: 256, FP16: 2048, INT8: 4096}
TRANSFERS_PER_CYCLE = 2  # of LPDDR5, by the clock that tegrastats and jetson_clocks call EMC


@dataclass(frozen=True)
class Module:
    """One kind of module, at the clocks of its fastest power mode.

    Attributes:
        key: what `--board` takes.
        name: for people.
        numbers: in the device tree's `compatible`.
        memory_gib: soldered on.
        multiprocessors: of the GPU, of 128 CUDA cores and four tensor cores each.
        gpu_mhz: highest clock of the GPU.
        bus_bits: width of the memory's bus.
        emc_mhz: highest clock of the memory.
        super_of: key of the row that this one is with the clocks of a "Super" flash; None for others.
    """

    key: str
    name: str
    numbers: tuple[str, ...]
    memory_gib: int
    multiprocessors: int
    gpu_mhz: float
    bus_bits: int
    emc_mhz: float
    super_of: str | None = None

    def gb_per_s(self, emc_mhz: float | None = None) -> float:
        """Memory bandwidth in 10^9 bytes a second, at the highest clock or at another."""
        return self.bus_bits / 8 * TRANSFERS_PER_CYCLE * (emc_mhz or self.emc_mhz) / 1e3

    def operations_per_s(self, products: str, gpu_mhz: float | None = None) -> float:
        """Peak of dense products, at the highest clock or at another.

        Args:
            products: their type, `fp32`, `fp16` or `int8`.
            gpu_mhz: None for the highest.
        """
        return self.multiprocessors * OPERATIONS_PER_CYCLE[products] * (gpu_mhz or self.gpu_mhz) * 1e6


MODULES = {
    module.key: module
    for module in (
        Module("agx-orin-64", "Jetson AGX Orin 64GB", ("p3701-0000", "p3701-0005"), 64, 16, 1300, 256, 3200),
        Module("agx-orin-32", "Jetson AGX Orin 32GB", ("p3701-0004",), 32, 14, 930, 256, 3200),
        Module("orin-nx-16", "Jetson Orin NX 16GB", ("p3767-0000",), 16, 8, 918, 128, 3200),
        Module("orin-nx-16-super", "Jetson Orin NX 16GB Super", (), 16, 8, 1173, 128, 3200, "orin-nx-16"),
        Module("orin-nx-8", "Jetson Orin NX 8GB", ("p3767-0001",), 8, 8, 765, 128, 3200),
        Module("orin-nx-8-super", "Jetson Orin NX 8GB Super", (), 8, 8, 1173, 128, 3200, "orin-nx-8"),
        Module("orin-nano-8", "Jetson Orin Nano 8GB", ("p3767-0003", "p3767-0005"), 8, 8, 625, 128, 2133),
        Module("orin-nano-8-super", "Jetson Orin Nano 8GB Super", (), 8, 8, 1020, 128, 3200, "orin-nano-8"),
        Module("orin-nano-4", "Jetson Orin Nano 4GB", ("p3767-0004",), 4, 4, 625, 64, 2133),
        Module("orin-nano-4-super", "Jetson Orin Nano 4GB Super", (), 4, 4, 1020, 64, 3200, "orin-nano-4"),
    )
}


def module_of(compatible: str, has_super_mode: bool) -> Module | None:
    """The row of a board; None for one that is no Orin of this table.

    A module is flashed as "Super" or not, and its device tree need not say which; its list of power modes does.

    Args:
        compatible: the device tree's, e.g. `nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005 nvidia,tegra234`.
        has_super_mode: whether it offers a mode named MAXN_SUPER.
    """
    numbers = set(re.findall(r"p3(?:701|767)-\d{4}", compatible))
    plain = next((module for module in MODULES.values() if numbers & set(module.numbers)), None)
    if plain is None or not has_super_mode:
        return plain
    return next((module for module in MODULES.values() if module.super_of == plain.key), plain)
