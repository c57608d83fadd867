"""The page of a run: one HTML file without network. Whatever a model wrote is text on it, never markup or a program."""
