"""What is asked of a language model and what comes back, and the log of every call."""
