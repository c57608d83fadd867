"""Models on disk and in memory: loading, adapters, checkpoints."""
