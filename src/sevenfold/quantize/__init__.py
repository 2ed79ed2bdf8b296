"""Float checkpoint to integers, the quality gate, and the seal."""
