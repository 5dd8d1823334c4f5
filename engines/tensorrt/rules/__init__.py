"""Rules of TensorRT's versions, which a graph is checked by without a board."""
