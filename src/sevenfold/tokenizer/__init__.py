"""The vocabulary: training, exact encoding and decoding, token files, and the fixed router
(specs/dataset.md).
"""
