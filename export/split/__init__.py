"""The model split into ONNX graphs: vision and projector, KV-cached decoder."""
