"""Checkpoints in the published layout: configuration, tensors, LoRA, the Hugging Face hub."""
