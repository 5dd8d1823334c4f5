"""Evaluation: six benchmarks, by the same code on a checkpoint and on an engine bundle."""
