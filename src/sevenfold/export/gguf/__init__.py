"""Write GGUF files of architecture `llama`, and import them."""
