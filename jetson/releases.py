"""Releases of Jetson Linux (L4T): which JetPack each is, and what software belongs to it."""

from __future__ import annotations

import re
from dataclasses import dataclass

# https://github.com/rbonghi/jetson_stats (jtop/core/jetson_variables.py); 39.2.1 by its own release notes.
JETPACKS = {
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.2": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.0.0": "7.2 EA",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
# Where large allocations were seen to fail with memory to spare, by NvMap's cap against CVE-2025-33177 or by
# fragmentation: https://github.com/pytorch/pytorch/issues/185240, https://github.com/ggml-org/llama.cpp/pull/23732
NVMAP_CAP = ("36.4.4", "36.4.7", "39.2.1")


@dataclass(frozen=True)
class Stack:
    """What belongs to a line of releases that this project runs on.

    Attributes:
        name: for people.
        tensorrt: version of the apt packages, as far as it is fixed.
        cuda: of the toolkit.
        python: that the apt package `python3-libnvinfer` is for.
        cuda_bindings: what pip is asked for: the wheel of another CUDA major does not load here.
    """

    name: str
    tensorrt: str
    cuda: str
    python: str
    cuda_bindings: str


STACKS = {
    36: Stack("JetPack 6.1 and 6.2", "10.3", "12.6", "3.10", "cuda-bindings>=12.6,<13"),
    39: Stack("JetPack 7.2", "10.16", "13.2", "3.12", "cuda-bindings>=13,<14"),
}
OLDEST = {36: (36, 4, 0), 39: (39, 0, 0)}  # JetPack 6.0 had TensorRT 8.6


def parse_l4t(text: str) -> str | None:
    """L4T version, e.g. `36.4.3`; None for text that holds none.

    Args:
        text: of `/etc/nv_tegra_release` (`# R36 (release), REVISION: 4.3, ...`), or the version of the package
            nvidia-l4t-core (`36.4.3-20250107174145`).
    """
    if found := re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text):
        return f"{found[1]}.{found[2].strip('.')}"
    found = re.match(r"\s*(\d+\.\d+\.\d+)", text)
    return found[1] if found else None


def stack_of(l4t: str | None) -> Stack | None:
    """The software that belongs to an L4T version; None for one that this project does not run on."""
    version = _numbers(l4t or "")
    line = version[0] if version else 0
    return STACKS[line] if line in STACKS and version >= OLDEST[line] else None


def jetpack_of(l4t: str | None) -> str | None:
    """The JetPack of an L4T version; None for one that is not in the table."""
    return JETPACKS.get(l4t or "")


def installed_packages(status: str) -> dict[str, str]:
    """Names and versions from dpkg's `/var/lib/dpkg/status`; packages that were removed are left out."""
    found = {}
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
