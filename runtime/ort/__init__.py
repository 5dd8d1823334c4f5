"""Runs bundles on ONNX Runtime's CPU kernels, XNNPACK and OpenVINO."""
