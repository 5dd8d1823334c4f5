"""Contiguous memory: the kernel's pool (CMA), its configured size, and the largest block that a build requests.

TensorRT's builder tries kernels for a decoder's head that need the head's weights in one block. On an Orin Nano with
L4T 36.4.7 and 36.5.0 builds failed with heads of 272 and 622 MB (https://github.com/onnxsim/onnxsim, scripts/nvidia;
https://github.com/hokwangchoi/jetson-orin-nano-benchmarks, vlm-benchmarks/notes). The latter was built when the pool
had 960 MiB instead of 256 and the head was cut in two. Its log names the head's size once; 1.5 times is the reporter's
figure, kept here as the careful one. The number in `NvMapMemAllocInternalTagged: 1075072515 error 12` is no size: it is
the same for any. None of this was measured with this project's engines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mobilevlm.checkpoint.config import ModelConfig
from mobilevlm.engines.stage_form import StageForm

from .extlinux import FILE, ExtlinuxError, get_parameter, why_not
from .memory import parse_meminfo
from .sysfs import read

PARAMETER = "cma"
# The largest that an Orin Nano could be started with: 1G and more did not fit below 4 GiB, and left a pool of nothing.
RECOMMENDED = "950M"
RECOMMENDED_BYTES = 950 << 20
HEAD_FACTOR = 1.5
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class ContiguousMemory:
    """The pool, in bytes; None is what the system does not tell.

    Attributes:
        total, free: size of the pool, and how much is free. The rest may be lent to pages that can be moved.
        started: value of `cma=` that the kernel was started with, such as `950M`.
        configured: the same in the boot loader's file, for the next start.
        refusal: reason why that file cannot be changed here; empty where it can.
    """

    total: int | None
    free: int | None
    started: str | None
    configured: str | None
    refusal: str

    @property
    def waits_for_reboot(self) -> bool:
        """Whether a larger pool is configured than there is."""
        return parse_size(self.configured) >= RECOMMENDED_BYTES > (self.total or 0) and self.started != self.configured


def read_contiguous(root: Path) -> ContiguousMemory:
    """Reads the pool.

    Args:
        root: `/`, or where a tree was copied to.
    """
    sizes = parse_meminfo(read(root, "/proc/meminfo") or "")
    started = re.findall(rf"(?:^|\s){PARAMETER}=(\S+)", read(root, "/proc/cmdline") or "")
    configured, path = None, root / FILE.lstrip("/")
    try:
        refusal = why_not(path)
        configured = None if refusal else get_parameter(path.read_bytes(), PARAMETER)
    except (OSError, ExtlinuxError) as error:
        refusal = getattr(error, "strerror", None) or str(error)
    return ContiguousMemory(
        sizes.get("CmaTotal"), sizes.get("CmaFree"), started[-1] if started else None, configured, refusal
    )


def parse_size(text: str | None) -> int:
    """Parses a size as the kernel takes it, such as `950M`, to bytes; 0 for None and for other forms."""
    found = re.fullmatch(r"(\d+)([KMG]?)(?:@.*)?", (text or "").upper())
    return int(found[1]) * UNITS[found[2]] if found else 0


def head_request(config: ModelConfig, form: StageForm) -> int:
    """Estimates the bytes of the largest block that building the decoder's head requests.

    Args:
        config: of the model.
        form: of its decoder.
    """
    return int(HEAD_FACTOR * config.vocab_size * config.hidden_size * form.head_bytes)
