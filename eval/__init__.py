"""Six benchmarks on a checkpoint or on an engine bundle, by the same code."""
