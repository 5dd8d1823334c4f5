"""One folder a backend: ort, qnn, tensorrt."""
