"""Write Hugging Face directories, and import them."""
