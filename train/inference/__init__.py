"""Predictions of loaded models: batching, ranking of answers, generation."""
