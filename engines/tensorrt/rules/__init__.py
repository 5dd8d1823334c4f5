"""What TensorRT takes, version by version, as rules that a graph is checked by off the board."""
