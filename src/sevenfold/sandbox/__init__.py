"""Execution of untrusted programs without network, files and other processes."""
