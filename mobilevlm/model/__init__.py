"""The PyTorch model: CLIP vision tower, projector, LLaMA decoder."""
