"""ONNX Runtime QNN: provider, SoCs, compilation of context binaries."""
