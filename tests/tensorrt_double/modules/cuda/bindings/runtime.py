"""See `modules/cuda`."""
