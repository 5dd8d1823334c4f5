"""Backends, a folder each: `backend.py` there says what it needs, writes, runs and compiles (see `backend.Backend`)."""
