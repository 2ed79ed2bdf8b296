"""A run directory: the job, its lock, and the name of every file in it."""
