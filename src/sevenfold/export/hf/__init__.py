"""Hugging Face directories: written, and read from elsewhere."""
