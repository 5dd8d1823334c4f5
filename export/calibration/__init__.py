"""Calibration: conversations, and the activations that they cause."""
