"""One module or folder per backend, named as in `generator.backend` (see targen/llm/registry.py)."""
