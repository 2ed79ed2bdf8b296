"""Out of the house and back: safetensors, Hugging Face and GGUF, each answer proven by the runtime
that will read the file.
"""
