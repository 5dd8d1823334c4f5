"""float32 in a strongly typed graph: the form every other one is measured against."""

import numpy as np

from .tensorrt_fp16 import linear

__all__ = ["BYTES", "TABLE_DTYPE", "TOLERANCE", "linear"]

TOLERANCE = 5e-5
BYTES = 4
TABLE_DTYPE = np.float32
