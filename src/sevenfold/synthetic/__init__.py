"""Synthetic curriculum: seeded generators whose samples are executed or parsed before they are kept
(specs/synthetic.md).
"""
