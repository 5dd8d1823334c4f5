"""ONNX Runtime QNN: the Hexagon NPU."""
