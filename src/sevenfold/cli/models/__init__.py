"""The verbs that take a model: run, verify, audit, serve, evaluate, export, release, compare."""
