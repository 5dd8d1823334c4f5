"""Runs graphs of products on the CPU it is started on.

    python tests/emulated/run_products.py IN_DIR OUT_DIR

IN_DIR has graphs, and what goes into each in an `.npz` of its name; OUT_DIR gets what comes out of each as one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(graphs: Path, out: Path) -> None:
    """Run them all."""
    for path in sorted(graphs.glob("*.onnx")):
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        with np.load(path.with_suffix(".npz")) as rows:
            np.savez(out / f"{path.stem}.npz", **dict(zip(names, session.run(names, dict(rows)), strict=True)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
