"""The quality of a data set without original rows: what small students learn from it."""
