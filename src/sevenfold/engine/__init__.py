"""Integer inference: the reference, native and PyTorch engines, and sessions behind the CM-1 gate."""
