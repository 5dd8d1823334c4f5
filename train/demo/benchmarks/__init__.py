"""The six benchmarks in the demo's world, in their official formats; `make_benchmarks.py` writes them."""
