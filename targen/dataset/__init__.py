"""The finished data set: its files, its card, and its upload to the Hub."""
