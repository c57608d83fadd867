"""One module or folder for each backend, found by its name in `generator.backend` (see targen/llm/registry.py)."""
