"""Text without PyTorch: tokenizer, conversation templates, prompts."""
