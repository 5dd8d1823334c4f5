"""Jetson Orin boards: description, checks and remedies, limits on paper, and measurements of speed, memory and power.

Free of PyTorch. Everything that is read from the system is read below a `root`, so that a copied tree works as well.
"""
