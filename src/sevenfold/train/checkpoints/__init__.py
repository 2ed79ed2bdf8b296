"""The state of a run in files: checkpoints, their digests and keys, and the trunk of another run."""
