"""Releases of Jetson Linux (L4T): their JetPack versions, reported failures, and the software that belongs to them."""

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
    "36.5.2": "6.2.3",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.4.0": "7.1",
    "39.0.0": "7.2 EA",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}


@dataclass(frozen=True)
class Failures:
    """Reports of allocations that failed on a release with memory to spare.

    Attributes:
        what: what failed, for messages.
        source: address of the report.
        of_builds: whether TensorRT's build of a language model's head is among them.
    """

    what: str
    source: str
    of_builds: bool = False


HEAD_REPORT = "https://github.com/hokwangchoi/jetson-orin-nano-benchmarks (vlm-benchmarks/notes)"
# By L4T version. NvMap, the driver's allocator, changed against CVE-2025-33177; fragmented memory does the same.
FAILURES = {
    "36.4.4": Failures("large CUDA allocations", "https://github.com/pytorch/pytorch/issues/185240"),
    "36.4.7": Failures(
        "large CUDA allocations, and builds of a language model's head with CMA at 256 MiB", HEAD_REPORT, True
    ),
    "36.5.0": Failures(
        "builds of a language model's head with CMA at 256 MiB, and large allocations beside another program",
        HEAD_REPORT,
        True,
    ),
    "39.2.1": Failures(
        "an allocation of TensorRT-Edge-LLM's runtime with 5.7 GB free, while builds of heads up to 778 MB worked",
        "https://github.com/onnxsim/onnxsim (docs/jetson-orin-nano-sdk-manager-flash.md)",
    ),
}
# By the beginning of L4T versions: builds that worked with the pool of contiguous memory as it comes.
BUILDS_WORKED = {"39.2": "on L4T 39.2.1 TensorRT-Edge-LLM built a head of 778 MB with the pool as it comes"}


@dataclass(frozen=True)
class Stack:
    """Software of a line of releases that this project runs on.

    Attributes:
        name: of the line, for messages.
        tensorrt: version of the apt packages, as far as it is fixed.
        cuda: version of the toolkit.
        python: version that the apt package `python3-libnvinfer` is for.
        cuda_bindings: requirement for pip: the wheel of another CUDA major does not load here.
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
    """Parses an L4T version, e.g. `36.4.3`; None for text without one.

    Args:
        text: content of `/etc/nv_tegra_release` (`# R36 (release), REVISION: 4.3, ...`), or the version of the package
            nvidia-l4t-core (`36.4.3-20250107174145`).
    """
    if found := re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text):
        return f"{found[1]}.{found[2].strip('.')}"
    found = re.match(r"\s*(\d+\.\d+\.\d+)", text)
    return found[1] if found else None


def stack_of(l4t: str | None) -> Stack | None:
    """Returns the software that belongs to an L4T version; None for one that this project does not run on."""
    version = _numbers(l4t or "")
    line = version[0] if version else 0
    return STACKS[line] if line in STACKS and version >= OLDEST[line] else None


def is_before_failures(l4t: str) -> bool:
    """Whether a version is older than the first that failures were reported of."""
    return _numbers(l4t) < min(map(_numbers, FAILURES))


def builds_worked(l4t: str) -> str:
    """Returns a report of a build that worked on a version or its line; empty where there is none."""
    return next((report for line, report in BUILDS_WORKED.items() if f"{l4t}.".startswith(f"{line}.")), "")


def jetpack_of(l4t: str | None) -> str | None:
    """Returns the JetPack version of an L4T version; None for one that is not in the table."""
    return JETPACKS.get(l4t or "")


def installed_packages(status: str) -> dict[str, str]:
    """Parses dpkg's `/var/lib/dpkg/status`: names to versions; packages that were removed are left out."""
    found = {}
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", stanza, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
