"""The finished data set: its files and its card."""
