"""Runs bundles on ONNX Runtime QNN."""
