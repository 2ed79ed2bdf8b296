"""Training on several ranks: the process group, shards of a model, sharded checkpoints."""
