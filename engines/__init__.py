"""Engine bundles, in which `export` and `runtime` meet: what is in one, which targets exist, how one is checked.

Free of PyTorch.
"""
