"""Lowerings: attention, norms and the kv cache as one family of runtimes has them; the decoder is defined once."""
