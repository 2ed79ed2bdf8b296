"""The PyTorch engine: integer tensors, on the CPU or on a CUDA device."""
