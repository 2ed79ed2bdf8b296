"""Foundations that every package uses: errors, hashing, files, manifests, fixed point.

It imports nothing else of Sevenfold.
"""
