"""The original data: local files, the Hub mirror, the evaluation rows that synthetic rows must not repeat."""
