"""Transformations of the weights before they are quantised."""
