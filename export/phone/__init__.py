"""Kit for a phone: scripts, and the graphs of a bundle, run by ONNX Runtime's benchmark program."""
