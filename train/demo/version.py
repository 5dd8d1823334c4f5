"""Version of the demo's data generator: data of another version is other data."""

from __future__ import annotations

import hashlib
from pathlib import Path


def generator() -> str:
    """Digest of all sources that images, captions, questions and benchmarks are made by."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in here.rglob("*.py")):
        if path.name not in ("train_demo.py", "judge.py", "card.py", "stages.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
