"""TensorRT-RTX's double in a process of its own, where the pretended machine has it; NVIDIA's own otherwise."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.tensorrt_double.module import modules
from tests.tensorrt_double.settings import from_environment

settings = from_environment()
if not settings.rtx:
    raise ImportError("the pretended machine has no tensorrt_rtx")
sys.modules |= modules(settings)
