"""Evaluate models reproducibly: protocol cards, pinned data, sealed runs, verdicts by execution.

The rules are specs/evaluation.md. A score names its protocol, and a run is one object that binds
model, task, decoding law, outputs and verdicts. Log-probabilities and draws are integers, so a
score does not depend on the machine, the batch, the threads or the backend.
"""
