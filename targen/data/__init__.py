"""The original data: local files, the Hub mirror, and the evaluation rows that synthetic rows must not repeat."""
