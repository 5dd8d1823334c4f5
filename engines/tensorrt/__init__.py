"""TensorRT engines: their optimization profiles, builders, the record of them, and rules for their graphs."""
