"""Measurements shared by the benchmarks, `choose.py` and evaluation: rounds, stages, limits, intervals, reports."""
