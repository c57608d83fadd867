"""The report of a run, and of several runs together."""
