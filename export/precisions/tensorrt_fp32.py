"""float32 in a strongly typed graph: the form every other one is measured against."""

import numpy as np

from .tensorrt_fp16 import linear

__all__ = ["BYTES", "TABLE_DTYPE", "TOLERANCE", "linear"]

TOLERANCE = 2e-4  # 9e-5 was seen, in some processes and not in others, on a CPU with AMX; 2e-6 elsewhere
BYTES = 4
TABLE_DTYPE = np.float32
