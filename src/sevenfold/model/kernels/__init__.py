"""The operators of training with their gradients: kernels of `native/train`, or PyTorch's."""
