"""What training takes: memory, disk, sequences at once, GPU-hours."""
