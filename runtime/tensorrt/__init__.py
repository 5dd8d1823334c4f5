"""TensorRT without PyTorch: engines, their memory, captured graphs; or the same graphs on the CPU."""
