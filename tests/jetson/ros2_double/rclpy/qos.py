"""rclpy.qos: the policies and the profile."""

from dataclasses import dataclass
from enum import IntEnum


class HistoryPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(IntEnum):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3


@dataclass(kw_only=True)
class QoSProfile:
    depth: int
    history: HistoryPolicy
    reliability: ReliabilityPolicy
