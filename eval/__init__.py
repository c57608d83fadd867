"""Evaluation: predictions, official metrics, tables and the report."""
