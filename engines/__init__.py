"""Engine bundles: what is in one, which targets exist, how one is checked. Free of PyTorch; `export` and `runtime` meet here."""
