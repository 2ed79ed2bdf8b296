"""The training data in its fixed order: interleaved domains, windows, packing, curriculum."""
