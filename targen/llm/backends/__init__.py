"""Language model backends, one module each, imported only when chosen."""
