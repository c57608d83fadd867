"""Requests to language models, their answers, and the log of every call."""
