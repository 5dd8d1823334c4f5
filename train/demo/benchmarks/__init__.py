"""The six benchmarks about demo scenes, in their official formats; `make_benchmarks.py` writes them."""
