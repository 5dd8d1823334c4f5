"""From a checkpoint to a verified engine bundle. Needs PyTorch and transformers (`pip install mobilevlm[export]`)."""
