"""A model in the layout of the Hugging Face hub: ONNX stages, configuration, tokenizer and processor files."""
