"""The capability band of a small model (A12): nine families of tasks, four rows each, split by
skeleton (specs/evaluation.md, section 10).
"""
