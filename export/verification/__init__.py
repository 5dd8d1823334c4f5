"""Verification of a build against PyTorch."""
