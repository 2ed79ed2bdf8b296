"""GGUF files of architecture `llama`: written, and read from elsewhere."""
