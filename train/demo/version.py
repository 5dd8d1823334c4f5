"""Which generator made a folder of demo data: another one's pictures and questions are other data."""

from __future__ import annotations

import hashlib
from pathlib import Path


def generator() -> str:
    """A digest of all sources that pictures, captions, questions and benchmarks are made by."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in here.rglob("*.py")):
        if path.name not in ("train_demo.py", "judge.py", "card.py", "stages.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
