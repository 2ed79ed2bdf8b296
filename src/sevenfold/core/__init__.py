"""Foundations that every room uses: errors, hashing, files, manifests, fixed point.

Imports nothing of ours.
"""
