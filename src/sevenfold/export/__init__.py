"""Export to and import from safetensors, Hugging Face and GGUF; the runtime that will read a file
proves each export.
"""
