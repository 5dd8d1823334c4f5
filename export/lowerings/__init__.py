"""How attention, norms and the kv cache are written for one family of runtimes; the decoder itself is defined once."""
