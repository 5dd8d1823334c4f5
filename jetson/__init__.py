"""A Jetson Orin board: what it is, what is wrong with it, what it can do at most, how fast it is and what that costs.

Free of PyTorch. Everything that is read from the system is read below a `root`, so that a copied tree does as well.
"""
