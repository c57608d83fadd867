"""Examples as text, cut to length, in batches."""
