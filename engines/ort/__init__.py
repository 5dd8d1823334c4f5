"""ONNX Runtime on a CPU: OpenVINO's graphs, int4 weights shared between decoder and prefill."""
