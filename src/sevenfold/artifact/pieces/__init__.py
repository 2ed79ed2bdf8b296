"""Verification of a file in pieces: one part alone, or each chunk as it arrives."""
