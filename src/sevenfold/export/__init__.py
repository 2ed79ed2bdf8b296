"""Export to and import from safetensors, Hugging Face and GGUF. The runtimes that will read an
export prove it.
"""
