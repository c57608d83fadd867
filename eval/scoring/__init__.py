"""Predictions, official metrics, and the rows of scores.jsonl."""
