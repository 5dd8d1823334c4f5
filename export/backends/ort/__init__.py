"""ONNX Runtime: CPU, XNNPACK, OpenVINO."""
