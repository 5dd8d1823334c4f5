"""What `runtime/benchmark.py` measures with: workers, stages, the machine's limits, tables."""
