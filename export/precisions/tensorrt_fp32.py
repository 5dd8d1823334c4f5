"""float32 in a strongly typed graph: the form every other one is measured against."""

import numpy as np

from mobilevlm.engines.stage_form import FP32, StageForm

from .facts import Facts
from .tensorrt_fp16 import linear

__all__ = ["FACTS", "linear"]

FACTS = Facts(5e-5, 4, np.float32, StageForm(FP32, FP32, 4, 4, "float32", "tensorrt"))
