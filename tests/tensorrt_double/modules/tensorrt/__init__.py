"""The double in a process of its own: on the path before anything else, it is what `import tensorrt` finds."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4]))

from tests.tensorrt_double.module import modules
from tests.tensorrt_double.settings import from_environment

sys.modules |= modules(from_environment())
