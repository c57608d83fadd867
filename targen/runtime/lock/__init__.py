"""The lock of a run: who holds it, and whether that process is still at work."""
