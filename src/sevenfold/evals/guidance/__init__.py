"""Answers that are chosen or mended by executing them."""
