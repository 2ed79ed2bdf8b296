"""What the model reads: sources, licences, drops under named reasons, the held-out split, the
ledger (specs/dataset.md).
"""
