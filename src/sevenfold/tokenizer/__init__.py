"""Vocabulary: training, encoding that round-trips exactly, token files, and the fixed router
(specs/dataset.md).
"""
