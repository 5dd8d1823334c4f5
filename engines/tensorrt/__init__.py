"""TensorRT on the machine at hand: which engines, with which profiles, built by whom, and what is noted of them."""
