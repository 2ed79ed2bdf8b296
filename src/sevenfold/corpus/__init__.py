"""Training data: sources, licences, drops with named reasons, the held-out split, the ledger
(specs/dataset.md).
"""
