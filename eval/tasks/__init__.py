"""The benchmarks, in the order of the paper's table."""

from __future__ import annotations

from ..task import Task
from .gqa import Gqa
from .mmbench import MmBench
from .mme import Mme
from .pope import Pope
from .sqa import Sqa
from .textvqa import TextVqa

TASKS: dict[str, Task] = {task.name: task for task in (Gqa(), Sqa(), TextVqa(), Pope(), Mme(), MmBench())}
