"""The double in a process of its own; see `modules/tensorrt`, which brings both."""

import tensorrt  # noqa: F401
