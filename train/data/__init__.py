"""Examples as texts, truncated to length, in training batches."""
