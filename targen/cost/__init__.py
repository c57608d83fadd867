"""The planned and the actual cost of a run: calls, tokens, time, money."""
